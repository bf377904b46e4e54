"""Confidence intervals, and Student's interval of one mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.text import interval

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

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval is on one side of 0."""
        return self.low > 0 or self.high < 0

    def within(self, margin: float) -> bool:
        """Return whether the whole interval lies between −margin and +margin."""
        return -margin <= self.low and self.high <= margin

    def __str__(self) -> str:
        return interval(self.low, self.high)


@dataclass(frozen=True)
class MeanInterval(Interval):
    """A mean of n differences with its confidence interval and p value; NaN if the differences do not vary."""

    mean: float
    p: float
    n: int


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> MeanInterval:
    """Return Student's t interval of a mean, and the p value of the hypothesis that the mean is 0.

    The values must be independent: one per seed, not one per seed and variant.
    """
    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    if n < 2 or error <= 1e-9 * abs(mean):  # errors are multiples of one image: ties give no interval
        return MeanInterval(math.nan, math.nan, mean, math.nan, n)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, n - 1))
    return MeanInterval(mean - half, mean + half, mean, p, n)
