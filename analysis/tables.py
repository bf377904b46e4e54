"""Tables of a study as rows of short texts, for the terminal and the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from .plots import count

SUMMARY_COLUMNS = (
    "variant",
    "role",
    "MACs",
    "to base",
    "params",
    "training MACs",
    "test error %",
    "n",
    "difference",
    "95 % interval",
)
EFFECT_COLUMNS = (
    "factor",
    "level",
    "against",
    "difference",
    "Holm-corrected interval",
    "p (uncorrected)",
    "pairs",
    "shown",
)


LEFT_COLUMNS = frozenset(
    {"run", "variant", "role", "state", "factor", "level", "against"}
    | {"model", "data", "source", "layer", "operator", "convention", "what is counted"}
    | {"study", "asks", "in the paper"}
)


def number(value: float | None, form: str = ".2f") -> str:
    """A number as text; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else format(value, form)


def _interval(low: float, high: float) -> str:
    return f"{low:+.2f} to {high:+.2f}" if math.isfinite(low) else "–"


def matched_size(row: Any) -> bool:
    """Whether a variant is a further size of a path's step, of a width that was solved for."""
    return row.role == "size" and bool(getattr(row, "path", False))


def summary_rows(summary: pd.DataFrame) -> list[tuple[str, ...]]:
    """`stats.summary` under SUMMARY_COLUMNS; differences in percentage points."""
    return [
        (
            row.variant,
            row.role,
            count(row.macs) if row.n else "–",
            f"{100 * row.residual:+.1f} %" if row.role in ("grid", "reference") or matched_size(row) else "–",
            count(row.params) if row.n else "–",
            count(row.training_macs) if row.n else "–",
            f"{number(row.error_mean)} ± {number(row.error_sd)}",
            f"{row.n}/{row.seeds}",
            number(row.difference, "+.2f"),
            _interval(row.difference_low, row.difference_high),
        )
        for row in summary.itertuples()
    ]


def effect_rows(effects: pd.DataFrame) -> list[tuple[str, ...]]:
    """`stats.effects` under EFFECT_COLUMNS; differences in percentage points."""
    return [
        (
            *map(str, (row.factor, row.level, row.against)),
            number(row.difference, "+.2f"),
            _interval(row.low, row.high),
            number(row.p, ".3g"),
            str(row.pairs),
            "yes" if row.effect else "no",
        )
        for row in effects.itertuples()
    ]


def setting(value: Any) -> str:
    """A setting as text: lists by commas, a dash for none."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return "–" if value is None else str(value)


def run_rows(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Every run with its state, error and reason."""
    return [
        {
            "run": row.run,
            "state": row.state,
            "error": number(row.test_error_percent),
            "seconds": number(row.seconds, ".1f"),
            "reason": row.reason or "",
        }
        for row in runs.itertuples()
    ]


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: as wide as it needs to be, so that nothing of it is cut in a file."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), box=None, title_justify="left", pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name not in LEFT_COLUMNS else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    unlimited = console.options.update(width=10_000)
    console.width = max(console.width, console.measure(table, options=unlimited).maximum)
    console.print(table)
