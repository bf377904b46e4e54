"""Findings about controls: dense networks of the base's width and of its cost, and a network against itself."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from scipy import stats

from analysis.axes import MATCH_TOLERANCE
from analysis.stats import CONFIDENCE, ERROR, Interval

from .differences import Difference


def reference_sentences(summary: pd.DataFrame) -> list[str]:
    """Compare the base with the dense reference of its width: cost saved, error paid."""
    if summary.empty:
        return []
    bases = summary[summary.role == "base"]
    if bases.empty:
        return []
    base = bases.iloc[0]
    references = summary[(summary.role == "reference") & (summary.n > 0)]
    return [_reference_sentence(base, dense) for _, dense in references.iterrows()] if base.n else []


def _reference_sentence(base: pd.Series, dense: pd.Series) -> str:
    found = Difference.of_variant(dense)
    text = (
        f"The base ({base.variant}) has {base.macs / dense.macs:.0%} of the dense reference's MACs and "
        f"{base.params / dense.params:.0%} of its parameters; "
    )
    return text + found.against("the dense reference's test error")


def equal_cost_sentences(summary: pd.DataFrame) -> list[str]:
    """Return whether a dense network at the base's cost has another test error than the base."""
    if summary.empty or not ((summary.role == "base") & (summary.n > 0)).any():
        return []
    controls = summary[(summary.role == "dense-equal") & (summary.n > 0)]
    return [_equal_cost_sentence(row) for row in controls.itertuples()]


def _equal_cost_sentence(row: Any) -> str:
    is_equal = abs(row.residual) <= MATCH_TOLERANCE
    name = "A dense network at the base's cost" if is_equal else "The dense network nearest to the base's cost"
    found = Difference.of_variant(row).against("its test error")
    return f"{name} ({row.variant}, {100 * row.residual:+.1f} % MACs) against the base: {found}"


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
    difference = f"{second.mean() - first.mean():+z.2f} points"
    text = "One network under two names, which cannot differ: "
    if not math.isfinite(found.low):
        return [f"{text}{difference} of test error ({counts}); too few for an interval."]
    if found.includes(0):
        return [f"{text}rightly no difference is found ({difference}, Welch's interval {found}; {counts})."]
    false = f"a difference is found, and it is false ({difference}, Welch's interval {found}; {counts})"
    return [f"{text}{false}. At 95 % this happens in 1 of 20 such studies."]
