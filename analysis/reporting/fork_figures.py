"""Figures of a study's forks: what was regretted of the pruning steps that they skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis import frames, plots, stats
from analysis.text import interval

from .learned_figures import CHAPTER
from .report_figure import ReportFigure, StudyData


def regret(data: StudyData) -> Iterator[ReportFigure]:
    """Draw how much of what each stage dropped would have been kept later, if forks skipped a stage."""
    forks = data.done[data.done.role == "fork"]
    counts = frames.regret(data.named(forks.run))
    if counts.empty:
        return
    yield ReportFigure(
        "regret",
        "Regret",
        "Forks of the base that prune nothing at one stage. Of the connections that the base dropped there, "
        "the share that these forks keep at the next stage and at the end; grey: if it had dropped at random. "
        "After the last stage nothing is pruned, so there the most important ones at the end count as kept. "
        "Right: test error of the base, and of forks that prune at random from the stage on, less that of the "
        "fork that pruned nothing there. Intervals: 95 % over the seeds.",
        regret_text(counts),
        plots.regret(counts),
        stats.regrets(counts).merge(stats.regret_costs(counts).drop(columns="runs"), on="stage"),
        CHAPTER,
    )


def regret_text(counts: pd.DataFrame) -> str:
    """Give for each stage the share that would be kept at the end, and what the pruning cost."""
    shares = stats.regrets(counts)
    costs = stats.regret_costs(counts).set_index("stage")
    rows = shares[shares.moment == "end"].sort_values("stage").itertuples()
    return " ".join(_sentence(row, costs.loc[row.stage]) for row in rows)


def _sentence(row: Any, cost: pd.Series) -> str:
    of_share = "" if pd.isna(row.share_low) else f" ({interval(row.share_low, row.share_high, '.0%')})"
    of_cost = "" if pd.isna(cost.cost_low) else f" ({interval(cost.cost_low, cost.cost_high)})"
    drawn = "" if pd.isna(cost.random_cost) else f"; pruning at random from there on {cost.random_cost:+z.2f}"
    return (
        f"Of the connections dropped at stage {row.stage}, {row.share:.0%}{of_share} would be kept at the end, "
        f"{row.chance:.0%} if they were dropped at random. Dropping them changed the test error by "
        f"{cost.cost:+z.2f} points{of_cost}{drawn}."
    )
