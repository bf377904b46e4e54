"""How far two choices of connections agree beyond chance, and its interval over runs or pairs of runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from .intervals import MeanInterval, mean_interval

UNIT = ("run", "other")


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
    parts = sums.groupby(list(by), sort=False) if by else [((), sums)]
    rows = [{**dict(zip(by, level, strict=True)), **_row(part)} for level, part in parts]
    return pd.DataFrame(rows, columns=[*by, "share", "chance", "agreement", "low", "high", "runs"])


def _row(sums: pd.DataFrame) -> dict[str, float]:
    kept, common, expected = sums.sum()
    beyond = pd.DataFrame({"gained": sums["shared"] - sums.expected, "possible": sums.kept - sums.expected})
    found = jackknifed(beyond)
    ends = {"agreement": found.mean, "low": found.low, "high": found.high, "runs": found.n}
    return {"share": common / kept, "chance": expected / kept} | ends


def jackknifed(parts: pd.DataFrame) -> MeanInterval:
    """Return Σ gained / Σ possible, and its 95 % interval over runs: NaN if nothing is possible.

    The parts are indexed by `run`, or by `run` and `other`. Pairs that share a run are not independent, so the
    interval comes from leaving out a run at a time (Arvesen 1969). It needs two runs, or three in pairs.
    """
    names = [parts.index.get_level_values(level).to_numpy() for level in parts.index.names if level in UNIT]
    runs = list(dict.fromkeys(np.concatenate(names).tolist()))
    gained, possible = parts.gained.to_numpy(), parts.possible.to_numpy()
    mean = _ratio(gained, possible)
    if len(runs) <= len(names):
        return MeanInterval(np.nan, np.nan, mean, np.nan, len(runs))
    rest = [np.all([name != run for name in names], axis=0) for run in runs]
    without = np.array([_ratio(gained[others], possible[others]) for others in rest])
    found = mean_interval(len(runs) * mean - (len(runs) - 1) * without)
    half = (found.high - found.low) / 2
    return MeanInterval(mean - half, mean + half, mean, found.p, len(runs))


def _ratio(gained: np.ndarray, possible: np.ndarray) -> float:
    whole = float(possible.sum())
    return float(gained.sum()) / whole if whole > 1e-9 else np.nan
