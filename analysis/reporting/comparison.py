"""Two studies side by side: what they ask differently, and what their common variants give."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from analysis.stats import ERROR, Interval, mean_interval

from .figures import ReportFigure
from .study_report import StudyReport
from .tables import Cell, Table, number


@dataclass(frozen=True)
class Comparison:
    """The second study beside the first."""

    first: StudyReport
    second: StudyReport

    @property
    def settings(self) -> Table:
        """Settings in which they differ."""
        a, b = self.first.settings, self.second.settings
        names = [name for name in dict.fromkeys([*a, *b]) if name != "name" and a.get(name) != b.get(name)]
        rows = [[Cell(name), Cell(a.get(name, "–")), Cell(b.get(name, "–"))] for name in names]
        return Table("Settings that differ", ("setting", self.first.name, self.second.name), rows)

    @cached_property
    def paired(self) -> pd.DataFrame:
        """Test errors of the variants and seeds that both have done."""
        frames = [
            study.runs[study.runs.state == "done"][["variant", "seed", ERROR]]
            if len(study.runs)
            else pd.DataFrame(columns=["variant", "seed", ERROR])
            for study in (self.first, self.second)
        ]
        return frames[0].merge(frames[1], on=["variant", "seed"], suffixes=("_first", "_second"))

    @property
    def difference(self) -> pd.Series:
        """Second less first, pair by pair."""
        return self.paired[f"{ERROR}_second"] - self.paired[f"{ERROR}_first"]

    @property
    def variants(self) -> Table:
        """The variants of both, with their errors and their difference paired by seed."""
        rows = []
        for variant in dict.fromkeys([*self._labels(self.first), *self._labels(self.second)]):
            paired = mean_interval(self.difference[self.paired.variant == variant].to_numpy())
            cells = [_error(study.summary, variant) for study in (self.first, self.second)]
            rows.append(
                [
                    Cell(variant),
                    *cells,
                    Cell(number(paired.mean, "+.2f")),
                    Cell(_interval(paired)),
                    Cell(str(paired.n)),
                ]
            )
        columns = (
            "variant",
            f"error % {self.first.name}",
            f"error % {self.second.name}",
            "difference",
            "95 % interval",
            "pairs",
        )
        return Table("Variants of both", columns, rows)

    @staticmethod
    def _labels(study: StudyReport) -> list[str]:
        return list(study.summary.variant) if len(study.summary) else []

    @property
    def sentence(self) -> str:
        """Whether one of them has lower errors where they can be compared."""
        names = f"{self.second.name} against {self.first.name}"
        if self.paired.empty:
            return f"{names}: no variant and seed is done in both, so nothing can be paired."
        found, variants = mean_interval(self.difference.to_numpy()), self.paired.variant.nunique()
        seeds = self.paired.seed.nunique()
        of = f"{seeds} seeds" if seeds > 1 else "one seed, which says nothing of others"
        text = (
            f"{names}: {found.mean:+.2f} points of test error over {variants} common variants "
            f"({found.n} pairs of {of}"
        )
        if found.low != found.low:
            return f"{text}; without variation there is no interval)."
        verdict = "" if found.excludes_zero else ", which holds 0: no difference is shown"
        return f"{text}; {_interval(found)}{verdict})."

    @property
    def figures(self) -> list[tuple[ReportFigure | None, ReportFigure | None]]:
        """The figures of both, those of one kind beside one another."""
        both = [{figure.key: figure for figure in study.figures} for study in (self.first, self.second)]
        return [(both[0].get(key), both[1].get(key)) for key in dict.fromkeys([*both[0], *both[1]])]


def _interval(found: Interval) -> str:
    return f"{found.low:+.2f} to {found.high:+.2f}" if found.low == found.low else "–"


def _error(summary: pd.DataFrame, variant: str) -> Cell:
    rows = summary[summary.variant == variant] if len(summary) else summary
    if rows.empty:
        return Cell("–", "")
    row = rows.iloc[0]
    return Cell(f"{number(row.error_mean)} ± {number(row.error_sd)} ({row.n})", repr(float(row.error_mean)))
