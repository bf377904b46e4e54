"""Regret with its interval over seeds, and what the pruning that is regretted cost."""

from __future__ import annotations

import pandas as pd

from .intervals import mean_interval


def regrets(counts: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Return the share of the dropped connections that would be kept later, with its 95 % interval over runs.

    `counts` is `frames.regret`, grouped by stage, moment and `by`. `chance` is the share after random dropping.
    """
    names = ["stage", "moment", *by]
    sums = counts.groupby([*names, "run"], sort=False)[["dropped", "returned", "expected"]].sum()
    shares = pd.DataFrame({name: sums[name] / sums.dropped for name in ("returned", "expected")})
    rows = [
        dict(zip(names, level, strict=True))
        | _interval("share", part.returned)
        | {"chance": part.expected.mean()}
        for level, part in shares.groupby(names, sort=False)
    ]
    found = pd.DataFrame(rows, columns=[*names, "share", "share_low", "share_high", "runs", "chance"])
    ends = ["share_low", "share_high"]
    found = found.assign(**found[ends].astype(float).clip(0, 1))
    return found.sort_values("stage", key=lambda stage: stage.astype(int), kind="stable", ignore_index=True)


def regret_costs(counts: pd.DataFrame) -> pd.DataFrame:
    """Return by stage what pruning there cost in points of test error, and what random pruning did.

    The error of the parent, and of the fork that prunes at random, less that of the fork that pruned nothing at
    that stage; means and 95 % intervals over seeds.
    """
    runs = counts.drop_duplicates(["stage", "run"])
    rows = [
        {"stage": stage} | _interval("random_cost", part.random_cost) | _interval("cost", part.cost)
        for stage, part in runs.groupby("stage", sort=False)
    ]
    ends = [f"{name}{end}" for name in ("cost", "random_cost") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["stage", *ends, "runs"])


def _interval(name: str, values: pd.Series) -> dict[str, float]:
    found = mean_interval(values.dropna())
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high, "runs": found.n}
