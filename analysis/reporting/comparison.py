"""Two studies side by side: the settings that differ, and the results of their common variants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from analysis.findings import Difference, joined_outcomes
from analysis.stats import DIFFERENCE, ERROR, MAIN, Cells, Contrast, compared
from analysis.text import counted

from .report_figure import ReportFigure
from .study_report import StudyReport
from .tables import Cell, Table, number

FIRST, SECOND = "first ", "second "  # before the names of the variants
RUN_COLUMNS = ("run", "variant", "seed", "state", "test_images", "data_fingerprint", ERROR)


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
    def cells(self) -> Cells:
        """The finished runs of both studies, those of the second beside those of the first."""
        return Cells(pd.concat([_prefixed(self.first, FIRST), _prefixed(self.second, SECOND)]))

    @cached_property
    def contrasts(self) -> list[Contrast]:
        """The second study minus the first, over all common variants and then of each."""
        both = [
            {SECOND + label: 1, FIRST + label: -1} for label in _labels(self.first) if self._is_common(label)
        ]
        found = [self.cells.contrast(MAIN, {"variant": "all"}, both)]
        for signs, label in zip(both, filter(self._is_common, _labels(self.first)), strict=True):
            found.append(self.cells.contrast(DIFFERENCE, {"variant": label}, [signs]))
        return [contrast for contrast in found if contrast]

    def _is_common(self, label: str) -> bool:
        return {FIRST + label, SECOND + label} <= set(self.cells.errors.index)

    @cached_property
    def compared(self) -> pd.DataFrame:
        """`stats.compared` of the contrasts. The test images count only if both studies have the same data."""
        outcomes = joined_outcomes((self.first, self.second))
        return compared(self.cells, self.contrasts, outcomes, self.first.meaningful)

    @property
    def variants(self) -> Table:
        """The variants of both studies, with their errors and the difference paired by seed."""
        errors = (f"error % {self.first.name}", f"error % {self.second.name}")
        labels = dict.fromkeys([*_labels(self.first), *_labels(self.second)])
        columns = ("variant", *errors, "difference", "95 % interval", "seeds", "finding")
        return Table("Variants of both", columns, [self._row(label) for label in labels])

    def _row(self, variant: str) -> list[Cell]:
        errors = [_error(study.summary, variant) for study in (self.first, self.second)]
        rows = self.compared[self.compared.variant == variant] if len(self.compared) else self.compared
        if rows.empty:
            return [Cell(variant), *errors, Cell("–"), Cell("–"), Cell("0"), Cell("–")]
        found = Difference.of_effect(rows.iloc[-1])
        texts = (number(found.mean, "+.2f"), str(found), str(found.seeds), found.finding)
        return [Cell(variant), *errors, *map(Cell, texts)]

    @property
    def sentence(self) -> str:
        """The finding: whether one study has lower errors than the other."""
        names = f"{self.second.name} against {self.first.name}"
        if self.compared.empty:
            return f"{names}: no variant and seed is done in both studies, so there are no pairs to compare."
        found, common = Difference.of_effect(self.compared.iloc[0]), len(self.contrasts) - 1
        return f"{names}, over {counted(common, 'common variant')}: {found.against('its test error')}"

    @property
    def figures(self) -> list[tuple[ReportFigure | None, ReportFigure | None]]:
        """The figures of both studies in pairs of the same kind."""
        both = [{figure.key: figure for figure in study.figures} for study in (self.first, self.second)]
        return [(both[0].get(key), both[1].get(key)) for key in dict.fromkeys([*both[0], *both[1]])]


def _prefixed(study: StudyReport, prefix: str) -> pd.DataFrame:
    """Return a study's runs with the names of their variants marked."""
    runs = study.runs
    return runs.assign(variant=prefix + runs.variant) if len(runs) else pd.DataFrame(columns=list(RUN_COLUMNS))


def _labels(study: StudyReport) -> list[str]:
    return list(study.summary.variant) if len(study.summary) else []


def _error(summary: pd.DataFrame, variant: str) -> Cell:
    rows = summary[summary.variant == variant] if len(summary) else summary
    if rows.empty:
        return Cell("–", "")
    row = rows.iloc[0]
    return Cell(f"{number(row.error_mean)} ± {number(row.error_sd)} ({row.n})", repr(float(row.error_mean)))
