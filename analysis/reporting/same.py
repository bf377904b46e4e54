"""What the study `same` found: one network under two names, so that every difference is a false one."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from scipy import stats

from analysis.stats import CONFIDENCE, ERROR, Interval


def welch_interval(first: pd.Series, second: pd.Series) -> Interval:
    """Return Welch's t interval of mean(second) − mean(first), of independent samples; NaN if there is none.

    The seeds of the samples differ, so they have no pairs, and their variances are estimated each by itself.
    """
    if min(len(first), len(second)) < 2 or not max(first.var(), second.var()):
        return Interval(math.nan, math.nan)
    found: Any = stats.ttest_ind(second, first, equal_var=False)
    return Interval(*map(float, found.confidence_interval(CONFIDENCE)))


def same_sentences(runs: pd.DataFrame) -> list[str]:
    """Return whether the two names of one network seem to differ; nothing for another study."""
    if runs.empty or not (runs.role == "same").any():
        return []
    done = runs[runs.state == "done"]
    first, second = (done[done.role == role][ERROR] for role in ("base", "same"))
    if not len(first) or not len(second):
        return []
    found, counts = welch_interval(first, second), f"{len(first)} and {len(second)} runs, no two of one seed"
    difference = f"{second.mean() - first.mean():+.2f} points"
    text = "One network under two names, which cannot differ: "
    if not math.isfinite(found.low):
        return [f"{text}{difference} of test error ({counts}); too few for an interval."]
    if found.includes(0):
        return [f"{text}rightly no difference is found ({difference}, Welch's interval {found}; {counts})."]
    false = f"a difference is found, and it is false ({difference}, Welch's interval {found}; {counts})"
    return [f"{text}{false}. At 95 % this happens in 1 of 20 such studies."]
