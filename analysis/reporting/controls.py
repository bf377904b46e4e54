"""Findings about a study's controls: the dense network that costs what the base does."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from analysis.axes import MATCH_TOLERANCE
from analysis.stats import Interval


def equal_cost_sentences(summary: pd.DataFrame) -> list[str]:
    """Return whether a dense network at the base's cost has another test error than the base."""
    if summary.empty or not ((summary.role == "base") & (summary.n > 0)).any():
        return []
    controls = summary[(summary.role == "dense-equal") & (summary.n > 0)]
    return [_equal_cost_sentence(row) for row in controls.itertuples()]


def _equal_cost_sentence(row: Any) -> str:
    is_equal = abs(row.residual) <= MATCH_TOLERANCE
    name = "A dense network at the base's cost" if is_equal else "The dense network nearest to the base's cost"
    found = Interval(row.difference_low, row.difference_high)
    text = f"{name} ({row.variant}, {100 * row.residual:+.1f} % MACs) against the base: "
    if not math.isfinite(found.low):
        return f"{text}{row.difference:+.2f} points of test error; too few pairs for an interval."
    if found.includes(0):
        return f"{text}no difference shown ({row.difference:+.2f} points; the interval {found} includes 0)."
    word = "lower" if row.difference < 0 else "higher"
    return f"{text}its test error is {word}, {row.difference:+.2f} points ({found})."
