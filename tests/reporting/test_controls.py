"""Findings about a study's controls."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.reporting.controls import equal_cost_sentences

BASE = {"variant": "base", "role": "base", "residual": 0.0, "n": 3, "difference": np.nan}


@pytest.mark.parametrize(
    ("control", "sentence"),
    [
        (
            {"difference": -0.5, "difference_low": -0.9, "difference_high": -0.1, "residual": 0.01},
            "A dense network at the base's cost (dense, +1.0 % MACs) against the base: its test error is "
            "lower, -0.50 points (-0.90 to -0.10).",
        ),
        (
            {"difference": 0.5, "difference_low": -0.1, "difference_high": 1.1, "residual": -0.2},
            "The dense network nearest to the base's cost (dense, -20.0 % MACs) against the base: no "
            "difference shown (+0.50 points; the interval -0.10 to +1.10 includes 0).",
        ),
        (
            {"difference": 0.5, "difference_low": np.nan, "difference_high": np.nan, "residual": 0.0},
            "A dense network at the base's cost (dense, +0.0 % MACs) against the base: +0.50 points of test "
            "error; too few pairs for an interval.",
        ),
    ],
)
def test_the_dense_network_at_equal_cost_is_a_finding(control, sentence):
    dense = {"variant": "dense", "role": "dense-equal", "n": 3} | control
    assert equal_cost_sentences(pd.DataFrame([BASE, dense])) == [sentence]
    assert equal_cost_sentences(pd.DataFrame([BASE, dense | {"n": 0}])) == []
    assert equal_cost_sentences(pd.DataFrame()) == []
