"""How far two choices of connections agree beyond chance, and its interval over runs or pairs of runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from .intervals import MeanInterval, mean_interval


def shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return how many connections two choices share at each input, their groups matched: (inputs,).

    `a` and `b` count the connections of each group to each input, (groups, inputs). Groups have no order: they
    are assigned to one another so that the choices share most.

    >>> shared(np.array([[1, 1, 0, 0], [0, 0, 1, 1]]), np.array([[0, 1, 0, 1], [1, 1, 0, 0]])).tolist()
    [1, 1, 0, 1]
    """
    common = np.minimum(a[:, None], b[None])  # (groups of a, groups of b, inputs)
    matched = linear_sum_assignment(common.sum(-1), maximize=True)
    return common[matched].sum(0)


def shared_by_source(
    a: np.ndarray, b: np.ndarray, firsts: Sequence[int], by_channel: bool = True
) -> np.ndarray:
    """Return how many connections two masks (groups, inputs) share at each source layer, groups matched.

    `firsts` are the first inputs of the sources. Without `by_channel`, channels of a source stand for each
    other: two groups share as many of them as both read.
    """
    if by_channel:
        return np.add.reduceat(shared(a.astype(int), b.astype(int)), firsts)
    return shared(*(np.add.reduceat(mask, firsts, axis=1, dtype=int) for mask in (a, b)))


def chance_by_source(
    a: np.ndarray, b: np.ndarray, firsts: Sequence[int], by_channel: bool, draws: np.random.Generator, n: int
) -> np.ndarray:
    """Return what `shared_by_source` is on average if the inputs of `b` are permuted, over `n` permutations.

    A permutation keeps how many groups read an input. After matching, even independent choices share more
    than the product of their shares.
    """
    inputs = b.shape[1]
    drawn = (shared_by_source(a, b[:, draws.permutation(inputs)], firsts, by_channel) for _ in range(n))
    return np.mean(list(drawn), axis=0)


def agreed(counts: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Return share, chance and agreement with its 95 % interval for each level of `by`.

    `counts` is `frames.agreement`, whose unit is a pair of runs, or `frames.decided`, whose unit is a run. The
    agreement is (shared − expected) / (kept − expected): 1 if all is shared, 0 if as much as by chance, NaN if
    chance shares all.
    """
    unit = ["run", "other"] if "other" in counts else ["run"]
    sums = counts.groupby([*by, *unit], sort=False)[["kept", "shared", "expected"]].sum()
    beyond = (sums["shared"] - sums.expected, sums.kept - sums.expected)
    sums["agreement"] = beyond[0] / beyond[1].where(beyond[1] > 1e-9)
    rows = [
        {**dict(zip(by, level, strict=True)), **_row(part)}
        for level, part in (sums.groupby(list(by), sort=False) if by else [((), sums)])
    ]
    return pd.DataFrame(rows, columns=[*by, "share", "chance", "agreement", "low", "high", "runs"])


def _row(sums: pd.DataFrame) -> dict[str, float]:
    values = sums.agreement.dropna()
    found = pairs_interval(values) if "other" in sums.index.names else mean_interval(values)
    runs = {name for unit in ("run", "other") if unit in sums.index.names for name in sums.index.unique(unit)}
    return {
        "share": float((sums["shared"] / sums.kept).mean()),
        "chance": float((sums.expected / sums.kept).mean()),
        "agreement": found.mean,
        "low": found.low,
        "high": found.high,
        "runs": len(runs),
    }


def pairs_interval(values: pd.Series) -> MeanInterval:
    """Return the mean of a value of pairs, indexed by `run` and `other`, with its 95 % interval over runs.

    Pairs that share a run are not independent: the interval is the jackknife's, which leaves out a run at a
    time (Arvesen 1969). There is none for fewer than three runs.
    """
    first, second = (values.index.get_level_values(name) for name in ("run", "other"))
    runs = list(dict.fromkeys([*first, *second]))
    mean = float(values.mean())
    if len(runs) < 3:
        return MeanInterval(np.nan, np.nan, mean, np.nan, len(runs))
    without = np.array([values[(first != run) & (second != run)].mean() for run in runs])
    return mean_interval(len(runs) * mean - (len(runs) - 1) * without)
