"""The table of what was tried to tune a study's settings."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.findings import TrialRow, tried, value_text
from analysis.text import count, inert

from .tables import Cell, Table, number


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
    return Table("Tuning", columns, [_cells(row, names) for row in rows])


def _cells(row: TrialRow, names: list[str]) -> list[Cell]:
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
