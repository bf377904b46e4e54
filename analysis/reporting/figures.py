"""All figures of a study's report, in their order."""

from __future__ import annotations

import pandas as pd

from condense_core.store import RunStore

from . import fork_figures, learned_figures, pruning_figures, result_figures, run_figures
from .report_figure import ReportFigure, StudyData


def report_figures(
    store: RunStore, runs: pd.DataFrame, summary: pd.DataFrame, compared: pd.DataFrame
) -> list[ReportFigure]:
    """Draw every figure that there is data for, the ones that answer the study's question first."""
    data = StudyData(store, runs, summary, compared)
    if runs.empty or data.done.empty:
        return []
    return [
        *result_figures.effects(data),
        *result_figures.tradeoffs(data),
        *pruning_figures.connections(data),
        *pruning_figures.sources(data),
        *learned_figures.decided(data),
        *learned_figures.agreement(data),
        *learned_figures.ranks(data),
        *fork_figures.regret(data),
        *learned_figures.sensitivity(data),
        *learned_figures.budget(data),
        *result_figures.grid(data),
        *run_figures.life(data),
        *run_figures.falling_macs(data),
        *run_figures.cost(data),
        *run_figures.times(store),
    ]
