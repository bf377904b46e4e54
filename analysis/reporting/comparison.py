"""Two studies side by side: the settings that differ, and the results of their common variants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isnan

import pandas as pd

from analysis.stats import ERROR, mean_interval

from .report_figure import ReportFigure
from .study_report import StudyReport
from .tables import Cell, Table, number


@dataclass(frozen=True)
class Comparison:
    """The second study compared with the first."""

    first: StudyReport
    second: StudyReport

    @property
    def settings(self) -> Table:
        """The settings that differ."""
        a, b = self.first.settings, self.second.settings
        names = [name for name in dict.fromkeys([*a, *b]) if name != "name" and a.get(name) != b.get(name)]
        rows = [[Cell(name), Cell(a.get(name, "–")), Cell(b.get(name, "–"))] for name in names]
        return Table("Settings that differ", ("setting", self.first.name, self.second.name), rows)

    @cached_property
    def paired(self) -> pd.DataFrame:
        """Test errors of the variants and seeds that are done in both studies."""
        first, second = map(_errors, (self.first, self.second))
        return first.merge(second, on=["variant", "seed"], suffixes=("_first", "_second"))

    @property
    def difference(self) -> pd.Series:
        """The second study's errors minus the first's, pair by pair."""
        return self.paired[f"{ERROR}_second"] - self.paired[f"{ERROR}_first"]

    @property
    def variants(self) -> Table:
        """The variants of both studies, with their errors and the difference paired by seed."""
        errors = (f"error % {self.first.name}", f"error % {self.second.name}")
        labels = dict.fromkeys([*_labels(self.first), *_labels(self.second)])
        columns = ("variant", *errors, "difference", "95 % interval", "pairs")
        return Table("Variants of both", columns, [self._row(label) for label in labels])

    def _row(self, variant: str) -> list[Cell]:
        found = mean_interval(self.difference[self.paired.variant == variant].to_numpy())
        texts = (number(found.mean, "+.2f"), str(found), str(found.n))
        errors = [_error(study.summary, variant) for study in (self.first, self.second)]
        return [Cell(variant), *errors, *map(Cell, texts)]

    @property
    def sentence(self) -> str:
        """The finding: whether one study has lower errors than the other."""
        names = f"{self.second.name} against {self.first.name}"
        if self.paired.empty:
            return f"{names}: no variant and seed is done in both studies, so there are no pairs to compare."
        found, variants = mean_interval(self.difference.to_numpy()), self.paired.variant.nunique()
        seeds = self.paired.seed.nunique()
        text = (
            f"{names}: {found.mean:+.2f} points of test error over {variants} common variants ({found.n} pairs "
            f"of {f'{seeds} seeds' if seeds > 1 else 'one seed, which says nothing about other seeds'}"
        )
        if isnan(found.low):
            return f"{text}; without variation there is no interval)."
        if found.excludes_zero:
            return f"{text}; {found})."
        return f"{text}; the interval {found} includes 0): no difference shown."

    @property
    def figures(self) -> list[tuple[ReportFigure | None, ReportFigure | None]]:
        """The figures of both studies in pairs of the same kind."""
        both = [{figure.key: figure for figure in study.figures} for study in (self.first, self.second)]
        return [(both[0].get(key), both[1].get(key)) for key in dict.fromkeys([*both[0], *both[1]])]


def _errors(study: StudyReport) -> pd.DataFrame:
    columns = ["variant", "seed", ERROR]
    runs = study.runs
    return runs[runs.state == "done"][columns] if len(runs) else pd.DataFrame(columns=columns)


def _labels(study: StudyReport) -> list[str]:
    return list(study.summary.variant) if len(study.summary) else []


def _error(summary: pd.DataFrame, variant: str) -> Cell:
    rows = summary[summary.variant == variant] if len(summary) else summary
    if rows.empty:
        return Cell("–", "")
    row = rows.iloc[0]
    return Cell(f"{number(row.error_mean)} ± {number(row.error_sd)} ({row.n})", repr(float(row.error_mean)))
