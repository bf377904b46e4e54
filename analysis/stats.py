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
from .text import interval

CONFIDENCE = 0.95
ERROR = "test_error_percent"


@dataclass(frozen=True)
class Interval:
    """A confidence interval; its ends are NaN if there is none."""

    low: float
    high: float

    def includes(self, value: float) -> bool:
        """Return whether a value is in the interval."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return interval(self.low, self.high)


@dataclass(frozen=True)
class MeanInterval(Interval):
    """A mean of n differences with its confidence interval and p value; NaN if the differences do not vary."""

    mean: float
    p: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval is on one side of 0."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> MeanInterval:
    """Return Student's t interval of a mean, and the p value of the hypothesis that the mean is 0."""
    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    if n < 2 or error <= 1e-9 * abs(mean):  # errors are multiples of one image: ties give no interval
        return MeanInterval(math.nan, math.nan, mean, math.nan, n)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, n - 1))
    return MeanInterval(mean - half, mean + half, mean, p, n)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per variant: cost, test error (mean, deviation, n), paired difference to the base.

    Only finished runs count; `runs` is `frames.study_runs`. The rows are in the study's order, base first.
    """
    if runs.empty:
        return pd.DataFrame()
    if "role" not in runs:
        raise ValueError("runs: must be those of a study, with their roles (frames.study_runs, Study.run)")
    done = runs[runs.state == "done"]
    base = done[done.role == "base"].set_index("seed")[ERROR]
    known = _known(runs, "role", "size", "residual", "curve", "path", *AXES, "growth_rate")
    rows = []
    for variant, asked in runs.groupby("variant", sort=False):
        part = done[done.variant == variant]
        first, errors = asked.iloc[0], part.set_index("seed")[ERROR]
        paired = (errors - base).dropna()
        is_base = first.role == "base"
        difference = mean_interval([] if is_base else paired.to_numpy())
        rows.append(
            {
                "variant": variant,
                **first[known],
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
    """Return the main effects of a factorial grid, paired over the other factors and the seeds.

    The intervals are corrected together after Holm (1979): the k-th smallest of m p values has its interval at
    1 − 0.05/(m−k+1). From the first interval that includes 0, all others use the same level, so that exactly
    the intervals of the effects that Holm's procedure finds exclude 0.
    """
    found = list(_compared(runs))
    rows = [
        {"factor": factor, "level": str(better), "against": str(other)} for factor, better, other, _ in found
    ]
    return _with_intervals(rows, [paired for *_, paired in found])


def effects_by_seed(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the same differences averaged within each seed, to show how much the effect varies by seed."""
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
    """Return two-factor interactions: how a factor's effect differs between two levels of another factor.

    They are differences of differences, paired over the other factors and the seeds, corrected after Holm.
    """
    if runs.empty or _is_path(runs):
        return pd.DataFrame()
    grid = _grid(runs)
    grid, axes = grid[grid.grouping != "none"], _known(grid, *AXES)
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
    """Add to each row the interval of its differences, all corrected together after Holm."""
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
    """Yield every two levels of every factor, paired over the other factors and the seeds."""
    grid = grid[grid.grouping != "none"]
    for factor in _known(grid, *AXES):
        others = [name for name in _known(grid, *AXES) if name != factor]
        table = grid.pivot_table(index=[*others, "seed"], columns=factor, values=ERROR, sort=False)
        for better, other in combinations(table.columns, 2):
            paired = (table[better] - table[other]).dropna()
            if len(paired):
                yield factor, better, other, paired


def _steps(grid: pd.DataFrame) -> Pairs:
    """Yield every step of a path and the step before it, paired by seed."""
    steps = list(dict.fromkeys(grid.curve))
    table = grid.pivot_table(index="seed", columns="curve", values=ERROR, sort=False)
    for before, step in pairwise(steps):
        paired = (table[step] - table[before]).dropna()
        if len(paired):
            yield "step", step, before, paired


def _is_path(runs: pd.DataFrame) -> bool:
    return bool(_known(runs, "path")) and bool(runs.path.any())


def _known(frame: pd.DataFrame, *names: str) -> list[str]:
    """Return the given columns that a frame has: older stores have fewer."""
    return [name for name in names if name in frame]


def holm_intervals(samples: Sequence[np.ndarray], confidence: float = CONFIDENCE) -> list[MeanInterval]:
    """Return intervals of several means; those that exclude 0 are the ones that Holm's procedure rejects."""
    plain = [mean_interval(sample) for sample in samples]
    order = sorted(range(len(plain)), key=lambda i: math.inf if math.isnan(plain[i].p) else plain[i].p)
    found: dict[int, MeanInterval] = {}
    level, stopped = confidence, False
    for rank, i in enumerate(order):
        if not stopped:
            level = 1 - (1 - confidence) / (len(plain) - rank)
        found[i] = mean_interval(samples[i], level)
        stopped = stopped or not found[i].excludes_zero
    return [found[i] for i in range(len(plain))]


def pareto(costs: Sequence[float] | np.ndarray, errors: Sequence[float] | np.ndarray) -> list[int]:
    """Return the indices of the points that no other point beats in cost and error, by cost."""
    front: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], errors[i])):
        if not front or errors[i] < errors[front[-1]]:
            front.append(i)
    return front
