"""The chapter "What was learned": what other seeds learn too, and when each connection was decided."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis import frames, plots, stats
from analysis.text import interval

from .report_figure import ReportFigure, StudyData, learned_runs, shown_run

CHAPTER = "What was learned"
MOST_SEEDS = 10  # that are compared in pairs


def decided(data: StudyData) -> Iterator[ReportFigure]:
    """Draw how many of the final connections the scores would have chosen at each moment, by variant."""
    chosen = learned_runs(data.runs)
    chosen = chosen[chosen.role.isin(["base", "grid"])] if len(chosen) else chosen
    counts = frames.decided(data.named(chosen.run) if len(chosen) else [])
    if counts.empty:
        return
    counts = counts.merge(chosen[["run", "variant"]], on="run")
    yield ReportFigure(
        "decided",
        "How much was decided when",
        "Share of the final connections that one pruning step by the importance Σ|W| would have chosen at each "
        "moment, of those alive then; epoch 0: the weights as drawn. Bands: 95 % interval over the seeds. "
        "Dashed: a choice by chance among the connections alive.",
        decided_text(counts),
        plots.decided(counts),
        stats.agreed(counts, "variant", "epoch"),
        CHAPTER,
    )


def decided_text(counts: pd.DataFrame) -> str:
    """Give the share that the weights as drawn would have chosen of the first variant, and chance."""
    first = counts[counts.variant == counts.variant.iloc[0]]
    rows = stats.agreed(first, "epoch").sort_values("epoch")
    drawn = rows.iloc[0]
    later = [
        f"{row.share:.0%} (chance {row.chance:.0%}) after {row.epoch:.3g}" for row in rows.iloc[1:].itertuples()
    ]
    return (
        f"The scores of the weights as drawn would have chosen {drawn.share:.0%} of the final connections of "
        f"{first.variant.iloc[0]}, where chance is {drawn.chance:.0%}"
        + (f"; those of the trained weights {', '.join(later)} epochs." if later else ".")
    )


def agreement(data: StudyData) -> Iterator[ReportFigure]:
    """Draw how far the seeds of the shown run's variant agree on the connections that they keep."""
    if (shown := shown_run(data.runs)) is None:
        return
    variant = data.runs.variant[data.runs.run == shown].iloc[0]
    chosen = learned_runs(data.runs)
    counts = frames.agreement(data.named(chosen.run[chosen.variant == variant].head(MOST_SEEDS)))
    if counts.empty:
        return
    yield ReportFigure(
        "agreement",
        "What other seeds learn too",
        f"Connections of {variant} that two seeds both keep, beyond those of independent choices (inputs "
        "permuted), groups matched: mean over the pairs of seeds, bands: 95 % interval. Two seeds number the "
        "channels of a layer differently, so they can hardly agree on channels; on how many are read they can.",
        agreement_text(counts),
        plots.agreement(counts),
        stats.agreed(counts, "unit", "target"),
        CHAPTER,
    )


def agreement_text(counts: pd.DataFrame) -> str:
    """Give the agreement of the seeds in channels and in sources, with its interval."""
    rows = stats.agreed(counts, "unit").set_index("unit")
    said = {"channel": "the same channels", "source": "how many channels of each layer they read"}
    parts = [f"{row.agreement:.2f}{_interval(row)} in {said[str(row.Index)]}" for row in rows.itertuples()]
    return f"{int(rows.runs.iloc[0])} seeds agree by {' and by '.join(parts)}; 0 is chance, 1 the same."


def _interval(row: Any) -> str:
    return "" if pd.isna(row.low) else f" ({interval(row.low, row.high)})"
