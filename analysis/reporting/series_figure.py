"""The figure of studies that differ in one number alone."""

from __future__ import annotations

import pandas as pd

from analysis import frames, plots
from analysis.findings import StudySeries

from .report_figure import ReportFigure, learned_runs

DECIDED = (
    " Bottom: of the connections that a learned run keeps, those that one pruning step by the importance of "
    "the weights as drawn would have chosen; dashed: by chance."
)
COLUMNS = ["variant", "value", "difference", "low", "high", "finding", "seeds"]


def series_figure(series: StudySeries) -> ReportFigure:
    """Draw errors and differences over the setting, and how much the weights as drawn decide at each value."""
    decided, name = _decided_at_start(series), series.setting.replace("_", " ")
    caption = (
        f"Studies that differ in {name} alone. Bars: 95 % intervals; those of the differences hold together. "
        "In the shaded band a difference is too small to matter."
    )
    return ReportFigure(
        "series",
        f"Over {name}",
        caption + (DECIDED if len(decided) else ""),
        " ".join(series.sentences) or "No variant can be compared.",
        plots.series(series.errors, series.differences, decided, series.setting),
        series.differences[COLUMNS] if len(series.differences) else series.errors,
    )


def _decided_at_start(series: StudySeries) -> pd.DataFrame:
    """Return `frames.decided` of all learned runs at epoch 0, with their variants and values."""
    learned = learned_runs(series.runs)
    if learned.empty:
        return learned
    counts = frames.decided([series.studies[0].store.named(name) for name in learned.run])
    if counts.empty:
        return counts
    return counts[counts.epoch == 0].merge(learned[["run", "variant", "value"]], on="run")
