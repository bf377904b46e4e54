"""What pruning each layer alone costs, as `analysis.layer_sensitivity` has kept it with runs."""

from __future__ import annotations

import pandas as pd

from .training import Source, runs_in, tidy_frame


def sensitivity(source: Source) -> pd.DataFrame:
    """Return the error with each layer alone pruned to each share; runs that keep none have no rows."""
    return _kept("sensitivity", "layers", source)


def statistics(source: Source) -> pd.DataFrame:
    """Return the errors around each pruning step; runs that keep no sensitivity have no rows."""
    return _kept("statistics", "steps", source)


def rises(steps: pd.DataFrame) -> dict[str, pd.Series]:
    """Return by how much the error rises at each step of `statistics`, in points: as it was, and anew."""
    ends = {"as they were": "", "taken anew": "_anew"}
    return {name: steps["error_after" + end] - steps["error_before" + end] for name, end in ends.items()}


def _kept(frame: str, part: str, source: Source) -> pd.DataFrame:
    rows = ({"run": run.name, **row} for run in runs_in(source) for row in run.sensitivity().get(part, ()))
    return tidy_frame(frame, rows)


def allowed_shares(found: pd.DataFrame, tolerance: float, column: str = "error_percent_anew") -> pd.DataFrame:
    """Return for each layer the largest share of its inputs that costs at most `tolerance` points of error.

    One row per layer, the least sensitive first: `share`, and what it costs alone (`cost`, points).
    """
    rows = []
    for target, own in found.sort_values("share").groupby("target", sort=False):
        costs = own[column].to_numpy() - own[column].iloc[0]
        fits = int((costs <= tolerance).cumprod().sum()) - 1  # the first share that costs more ends it
        rows.append({"target": target, "share": float(own.share.iloc[fits]), "cost": float(costs[fits])})
    return pd.DataFrame(rows).sort_values("share", ascending=False, kind="stable")
