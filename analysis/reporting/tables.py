"""Tables of a study as rows of short texts, for the terminal and the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.axes import AXES
from analysis.findings import HELD, NOT_HELD, PARTLY, Answer, TrialRow, tried, value_text
from analysis.stats import OPEN
from analysis.text import DIGITS, LEFT_COLUMNS, count, inert, interval

SUMMARY_COLUMNS = (
    *("variant", "role", "MACs", "to base", "params", "training MACs"),
    *("test error %", "n", "difference", "95 % interval"),
)
EFFECT_COLUMNS = (
    *("factor", "level", "against", "difference", "95 % interval", "p", "pairs", "seeds"),
    *("± seeds", "± images", "seeds needed", "finding"),
)


class Cell(NamedTuple):
    """The text of a cell, the exact value if that is longer, and whether it differs from the base."""

    text: str
    value: str | None = None
    differs: bool = False


@dataclass(frozen=True)
class Table:
    """A table of a report: its first `heads` columns name the row; `base` is the index of the row to mark."""

    name: str
    columns: tuple[str, ...]
    rows: list[list[Cell]]
    heads: int = 1
    base: int | None = None

    @property
    def left(self) -> list[bool]:
        """Whether each column has words (aligned left) or numbers."""
        return [
            name in LEFT_COLUMNS or not _numeric(self.rows, place) for place, name in enumerate(self.columns)
        ]


def _numeric(rows: list[list[Cell]], place: int) -> bool:
    texts = [row[place].text for row in rows]
    return any(text[:1].isdigit() or text[:1] in "+-" for text in texts) or all(text == "–" for text in texts)


def frame_table(name: str, frame: pd.DataFrame) -> Table:
    """Return a frame as a table of short numbers with their exact values."""
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return Table(name, tuple(str(column).replace("_", " ") for column in frame.columns), rows)


def _cell(value: Any) -> Cell:
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return Cell("–", "")
    if isinstance(value, float | np.floating):
        full = float(value)
        exact, text = _exact(full), f"{full:.4g}" if abs(full) < 10_000 else f"{full:.0f}"
        return Cell(text, None if float(text) == float(exact) else exact)
    if isinstance(value, bool | np.bool_):
        return Cell("yes" if value else "no")
    return Cell(str(value))


EXACT = {
    "test error %": "error_mean",
    "difference": "difference",
    "MACs": "macs",
    "to base": "residual",
    "params": "params",
    "training MACs": "training_macs",
}
MATCHED_ROLES = ("grid", "reference", "dense-equal", "budget")  # whose cost is compared with the base's
FIRST = ("test error %", "n", "difference", "95 % interval")  # columns that readers of the report look for
SHORT_NAMES = {"growth_rate": "k₀", "condense_factor": "C", "groups": "G", "group_lasso": "λ"}


def summary_table(name: str, summary: pd.DataFrame) -> Table:
    """Return `stats.summary` with a column for every axis that varies, and mark differences from the base."""
    columns = ["variant", "role", *FIRST, *(c for c in SUMMARY_COLUMNS[2:] if c not in FIRST)]
    grouped = summary[summary.grouping != "none"] if len(summary) else summary
    varied = [axis for axis in (*AXES, "growth_rate") if axis in summary and grouped[axis].nunique() > 1]
    is_base = list(summary.role == "base") if len(summary) else []
    base = summary[is_base].iloc[0] if any(is_base) else None
    rows = []
    for (_, row), texts in zip(summary.iterrows(), summary_rows(summary), strict=True):
        named = dict(zip(SUMMARY_COLUMNS, texts, strict=True))
        cells = [_summary_cell(row, column, named[column]) for column in columns]
        axes = [Cell(str(row[axis]), differs=base is not None and row[axis] != base[axis]) for axis in varied]
        rows.append([*cells[:2], *axes, *cells[2:]])
    headings = ["variant", "role", *(SHORT_NAMES.get(axis, axis) for axis in varied), *columns[2:]]
    return Table(name, tuple(headings), rows, base=is_base.index(True) if any(is_base) else None)


def _summary_cell(row: pd.Series, column: str, text: str) -> Cell:
    return Cell(text, _exact(row[EXACT[column]]) if column in EXACT and "–" not in text[:1] else None)


def _exact(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.{DIGITS}g}"


def effect_table(name: str, effects: pd.DataFrame) -> Table:
    """Return `stats.effects` under EFFECT_COLUMNS."""
    return Table(name, EFFECT_COLUMNS, [[Cell(text) for text in row] for row in effect_rows(effects)], heads=3)


SIGNS = {HELD: "●", PARTLY: "◐", NOT_HELD: "○"}
AUDIT_COLUMNS = ("requirement", "verdict", "evidence", "to mend it")


def audit_table(answers: Sequence[Answer]) -> Table:
    """Return the answers of an audit under AUDIT_COLUMNS; a sign marks each verdict."""
    return Table("Audit", AUDIT_COLUMNS, [[Cell(text) for text in row] for row in audit_rows(answers)])


def audit_rows(answers: Sequence[Answer]) -> list[tuple[str, ...]]:
    """Return the answers of an audit as texts under AUDIT_COLUMNS."""
    return [
        (one.requirement, f"{SIGNS[one.verdict]} {one.verdict}", one.evidence, one.mend or "–")
        for one in answers
    ]


def number(value: float | None, form: str = ".2f") -> str:
    """Format a number; a dash if there is none."""
    return "–" if value is None or not math.isfinite(value) else format(value, form)


def matched_size(row: Any) -> bool:
    """Return whether a variant is a further size of a path's step, with a width that was solved for."""
    return row.role == "size" and bool(getattr(row, "path", False))


def summary_rows(summary: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return `stats.summary` under SUMMARY_COLUMNS; differences are in percentage points."""
    return [
        (
            row.variant,
            row.role,
            _counted(row.macs),
            f"{100 * row.residual:+.1f} %" if row.role in MATCHED_ROLES or matched_size(row) else "–",
            _counted(row.params),
            _counted(row.training_macs),
            f"{number(row.error_mean)} ± {number(row.error_sd)}",
            f"{row.n}/{row.seeds}",
            number(row.difference, "+.2f"),
            interval(row.difference_low, row.difference_high),
        )
        for row in summary.itertuples()
    ]


def _counted(cost: float) -> str:
    return count(cost) if math.isfinite(cost) else "–"


def effect_rows(effects: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return `stats.effects` under EFFECT_COLUMNS; differences are in percentage points."""
    return [
        (
            *map(str, (row.factor, row.level, row.against)),
            number(row.difference, "+.2f"),
            interval(row.low, row.high),
            number(row.p, ".3g"),
            str(row.pairs),
            str(row.seeds),
            number(row.se_seeds),
            number(getattr(row, "se_images", None)),
            _seeds_needed(row),
            row.finding,
        )
        for row in effects.itertuples()
    ]


def _seeds_needed(row: Any) -> str:
    if row.finding != OPEN:
        return "–"
    return "∞" if row.seeds_needed == math.inf else number(row.seeds_needed, ".0f")


def setting(value: Any) -> str:
    """Format a setting: a list with commas, a table with semicolons, a dash for none."""
    if isinstance(value, dict):
        return "; ".join(f"{name} {setting(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else str(value)


def run_table(name: str, runs: pd.DataFrame) -> Table:
    """Return `frames.study_runs` in short: one row per run with its state and error."""
    rows = [
        [
            Cell(row.run),
            Cell(row.state),
            Cell(number(row.test_error_percent), _exact(row.test_error_percent) if row.state == "done" else ""),
            Cell(number(row.seconds, ".1f")),
        ]
        for row in runs.itertuples()
    ]
    return Table(name, ("run", "state", "test error %", "seconds"), rows)


def tuning_table(rows: Sequence[TrialRow]) -> Table:
    """Return every trial as a row; those that were chosen are marked."""
    names = list(tried(rows))
    columns = (
        "variant",
        *map(inert, names),
        "validation error %",
        "runs",
        "training MACs",
        "seconds",
        "chosen",
    )
    return Table("Tuning", columns, [_trial_cells(row, names) for row in rows])


def _trial_cells(row: TrialRow, names: list[str]) -> list[Cell]:
    values = [Cell(value_text(row["values"].get(name, "–")), differs=row["chosen"]) for name in names]
    return [
        Cell(inert(row["variant"])),
        *values,
        Cell(number(row["error_percent"])),
        Cell(str(len(row["runs"]))),
        Cell(count(row["training_macs"])),
        Cell(number(row["seconds"], ".1f")),
        Cell("yes" if row["chosen"] else "no"),
    ]
