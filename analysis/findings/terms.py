"""On what terms the runs of a study were trained, and warnings if these were not equal."""

from __future__ import annotations

import pandas as pd

from analysis.axes import MATCH_TOLERANCE
from analysis.text import counted


def compared_cost(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the variants whose cost should be the base's."""
    return summary[summary.role.isin(["grid", "budget"]) & (summary.n > 0)] if len(summary) else summary


def unequal_cost(summary: pd.DataFrame) -> list[str]:
    """Return a warning if the compared variants do not cost the same."""
    grid = compared_cost(summary)
    if grid.empty or grid.residual.abs().max() <= MATCH_TOLERANCE:
        return []
    low, high = grid.residual.min(), grid.residual.max()
    return [
        "These differences are not at equal cost: the variants' MACs differ from the base's by "
        f"{100 * low:+.0f} % to {100 * high:+.0f} %. The trade-off shows error and cost together."
    ]


def terms(runs: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return on what the runs were trained: by name of the term the number of runs with each value."""
    names = {"code": "condense_core", "torch": "torch", "data_fingerprint": "data", "processor": "processor"}
    known = {name: runs[column].fillna("unknown") for column, name in names.items() if column in runs}
    return {name: dict(sorted(values.value_counts().items())) for name, values in known.items()}


def unequal_terms(runs: pd.DataFrame) -> list[str]:
    """Return a warning for each way in which a study's runs were trained on unequal terms."""
    if runs.empty:
        return []
    sentences = []
    for name, counts in terms(runs).items():
        if len(counts) > 1:
            parts = ", ".join(f"{value} ({counted(number, 'run')})" for value, number in counts.items())
            sentences.append(f"The runs were not all trained with the same {name}: {parts}.")
    resumed = runs.run[~runs.bit_identical.astype(bool)]
    if len(resumed):
        sentences.append(
            "Not bit-identical to uninterrupted runs, because they were resumed with other threads, ranks, "
            f"device, execution or processor: {counted(len(resumed), 'run')} ({', '.join(resumed)})."
        )
    return sentences
