"""Statistics of a study: means over seeds, paired differences, factorial effects with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
from scipy import stats

from .axes import AXES

CONFIDENCE = 0.95
ERROR = "test_error_percent"


@dataclass(frozen=True)
class Interval:
    """A mean of n differences with its confidence interval and p value; NaN where nothing varies."""

    mean: float
    low: float
    high: float
    p: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Student's t interval of a mean, and the p value of its being 0."""
    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan, math.nan, n)
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    if error <= 1e-9 * abs(mean):  # ties in steps of one image: no variation that an interval could rest on
        return Interval(mean, math.nan, math.nan, math.nan, n)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    return Interval(mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, n - 1)), n)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a variant: cost, test error mean ± standard deviation (n), difference to the base paired by seed.

    Only runs that are done count; `runs` is `frames.study_runs`. Sorted as the study is, base first.
    """
    if runs.empty:
        return pd.DataFrame()
    if "role" not in runs:
        raise ValueError("runs: must be those of a study, with their roles (frames.study_runs, Study.run)")
    done = runs[runs.state == "done"]
    base = done[done.role == "base"].set_index("seed")[ERROR]
    rows = []
    for variant, all_of_it in runs.groupby("variant", sort=False):
        part = done[done.variant == variant]
        first, errors = all_of_it.iloc[0], part.set_index("seed")[ERROR]
        paired = (errors - base).dropna()
        is_base = first.role == "base"
        difference = mean_interval([] if is_base else paired.to_numpy())
        rows.append(
            {
                "variant": variant,
                **{
                    name: first[name]
                    for name in _of(runs, "role", "size", "residual", "curve", "path", *AXES, "growth_rate")
                },
                **{name: part[name].max() for name in ("macs", "flops_paper", "params", "training_macs")},
                "error_mean": errors.mean(),
                "error_sd": errors.std(ddof=1),
                "n": len(errors),
                "seeds": first.seeds,
                "difference": difference.mean,
                "difference_low": difference.low,
                "difference_high": difference.high,
                "pairs": difference.n,
            }
        )
    return pd.DataFrame(rows)


def effects(runs: pd.DataFrame) -> pd.DataFrame:
    """Main effects of a factorial grid: pairs of levels, paired over the other factors and the seeds.

    The intervals are corrected together after Holm (1979): the k-th smallest of m p values has its interval at
    1 − 0.05/(m−k+1), and from the first that holds 0 on, all are taken at that level, so that exactly the
    effects that Holm's procedure finds exclude 0.
    """
    found = list(_compared(runs))
    rows = [
        {"factor": factor, "level": str(better), "against": str(other)} for factor, better, other, _ in found
    ]
    return _with_intervals(rows, [paired for *_, paired in found])


def effects_by_seed(runs: pd.DataFrame) -> pd.DataFrame:
    """The same differences averaged within each seed: how far one seed's effect is from another's."""
    return pd.DataFrame(
        [
            {"factor": factor, "level": str(better), "against": str(other), "seed": seed, "difference": mean}
            for factor, better, other, paired in _compared(runs)
            for seed, mean in paired.groupby(level="seed").mean().items()
        ],
        columns=["factor", "level", "against", "seed", "difference"],
    )


def _compared(runs: pd.DataFrame) -> Pairs:
    if not runs.empty:
        yield from _steps(_grid(runs)) if _is_path(runs) else _pairs(_grid(runs))


def interactions(runs: pd.DataFrame) -> pd.DataFrame:
    """Two-factor interactions: how a factor's effect differs between two levels of another factor.

    Differences of differences, paired over the remaining factors and the seeds, corrected together after Holm.
    """
    if runs.empty or _is_path(runs):
        return pd.DataFrame()
    grid = _grid(runs)
    grid, axes = grid[grid.grouping != "none"], _of(grid, *AXES)
    rows: list[dict[str, str]] = []
    differences: list[pd.Series] = []
    for factor, other in combinations([name for name in axes if grid[name].nunique() > 1], 2):
        rest = [name for name in axes if name not in (factor, other)]
        table = grid.pivot_table(index=[*rest, "seed"], columns=[factor, other], values=ERROR, sort=False)
        for a, b in combinations(dict.fromkeys(grid[factor]), 2):
            for c, d in combinations(dict.fromkeys(grid[other]), 2):
                if {(a, c), (b, c), (a, d), (b, d)} <= set(table.columns):
                    paired = table[a, c] - table[b, c] - (table[a, d] - table[b, d])
                    rows.append({"factor": factor, "level": str(a), "against": str(b)})
                    rows[-1] |= {"other": other, "other_level": str(c), "other_against": str(d)}
                    differences.append(paired.dropna())
    return _with_intervals(rows, differences)


def _grid(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs.role.isin(["base", "grid"]) & (runs.state == "done")]


def _with_intervals(rows: list[dict[str, str]], differences: list[pd.Series]) -> pd.DataFrame:
    """Each row with the interval of its differences, all of them corrected together after Holm."""
    intervals = holm_intervals([paired.to_numpy() for paired in differences])
    found = zip(rows, differences, intervals, strict=True)
    return pd.DataFrame(
        [
            {
                **row,
                "difference": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "p": interval.p,
                "pairs": interval.n,
                "seeds": paired.index.get_level_values("seed").nunique(),
                "effect": interval.excludes_zero,
            }
            for row, paired, interval in found
            if interval.n
        ]
    )


Pairs = Iterator[tuple[str, object, object, pd.Series]]  # factor, level, against, differences by pair


def _pairs(grid: pd.DataFrame) -> Pairs:
    """Every two levels of every factor, paired over the other factors and the seeds."""
    grid = grid[grid.grouping != "none"]
    for factor in _of(grid, *AXES):
        others = [name for name in _of(grid, *AXES) if name != factor]
        table = grid.pivot_table(index=[*others, "seed"], columns=factor, values=ERROR, sort=False)
        for better, other in combinations(table.columns, 2):
            paired = (table[better] - table[other]).dropna()
            if len(paired):
                yield factor, better, other, paired


def _steps(grid: pd.DataFrame) -> Pairs:
    """Every step of a path against the one before, paired by seed."""
    steps = list(dict.fromkeys(grid.curve))
    table = grid.pivot_table(index="seed", columns="curve", values=ERROR, sort=False)
    for before, step in pairwise(steps):
        paired = (table[step] - table[before]).dropna()
        if len(paired):
            yield "step", step, before, paired


def _is_path(runs: pd.DataFrame) -> bool:
    return bool(_of(runs, "path")) and bool(runs.path.any())


def _of(frame: pd.DataFrame, *names: str) -> list[str]:
    """Those of some columns that a frame has: older stores have fewer."""
    return [name for name in names if name in frame]


def holm_intervals(samples: Sequence[np.ndarray], confidence: float = CONFIDENCE) -> list[Interval]:
    """Intervals of several means at once; those that exclude 0 are what Holm's step-down procedure rejects."""
    plain = [mean_interval(sample) for sample in samples]
    order = sorted(range(len(plain)), key=lambda i: math.inf if math.isnan(plain[i].p) else plain[i].p)
    found: dict[int, Interval] = {}
    level, stopped = confidence, False
    for rank, i in enumerate(order):
        if not stopped:
            level = 1 - (1 - confidence) / (len(plain) - rank)
        found[i] = mean_interval(samples[i], level)
        stopped = stopped or not found[i].excludes_zero
    return [found[i] for i in range(len(plain))]


def pareto(costs: Sequence[float] | np.ndarray, errors: Sequence[float] | np.ndarray) -> list[int]:
    """Indices of the points that no other point beats in cost and error, by cost."""
    front: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], errors[i])):
        if not front or errors[i] < errors[front[-1]]:
            front.append(i)
    return front
