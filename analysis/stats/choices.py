"""How far chance decides a choice by the mean error of a few seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy import stats

from .intervals import CONFIDENCE


def choice_noise(tables: Iterable[np.ndarray], confidence: float = CONFIDENCE) -> float | None:
    """Return the half width of the interval of the difference between two values that were tried.

    Each table has the errors of one variant, (values, seeds), NaN where there is none. What is left of
    them after the means of its values and of its seeds is noise; its variance is pooled over all tables.
    None if there is one seed or one value. Each interval is on its own, not corrected for their number.
    """
    squares, freedom, seeds = 0.0, 0, math.inf
    for table in tables:
        complete = table[~np.isnan(table).any(axis=1)]
        if min(complete.shape) < 2:
            continue
        noise = complete - complete.mean(0) - complete.mean(1, keepdims=True) + complete.mean()
        squares += float((noise**2).sum())
        freedom += (complete.shape[0] - 1) * (complete.shape[1] - 1)
        seeds = min(seeds, complete.shape[1])
    if not freedom:
        return None
    return float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(2 * squares / freedom / seeds)
