"""Where the error axis begins."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis import plots


@pytest.mark.parametrize(("shift", "begins_at_zero"), [(0, True), (30, False)])
def test_an_error_axis_begins_at_zero_unless_all_errors_are_far_from_it(shift, begins_at_zero):
    rows = [("learned", 1.0), ("random", 3.0)]
    summary = pd.DataFrame(
        {
            "variant": f"{grouping}-full",
            "role": "base" if grouping == "learned" else "grid",
            "curve": grouping,
            "grouping": grouping,
            "growth": "constant",
            "connectivity": "full",
            "macs": 1000.0,
            "error_mean": error + shift,
            "error_low": error + shift - 0.5,
            "error_high": error + shift + 0.5,
            "n": 3,
        }
        for grouping, error in rows
    )
    for low, high in (
        plots.tradeoff(summary).axes[0].get_ylim(),
        plots.equal_cost(summary).axes[0].get_xlim(),
    ):
        assert (low == 0) == begins_at_zero
        assert low < shift + 0.5
        assert high > shift + 3.5
