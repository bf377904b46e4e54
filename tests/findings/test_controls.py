"""Findings about a study's controls."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.findings.controls import equal_cost_sentences

BASE = {"variant": "base", "role": "base", "residual": 0.0, "n": 3, "difference": np.nan}
SEEDS = {"pairs": 3, "meaningful": 0.5, "images_needed": 900.0}


@pytest.mark.parametrize(
    ("control", "sentence"),
    [
        (
            {"difference": -0.9, "difference_low": -1.2, "difference_high": -0.6, "finding": "differs"},
            "its test error is lower: -0.90 points (-1.20 to -0.60; 3 seeds).",
        ),
        (
            {"difference": -0.2, "difference_low": -0.3, "difference_high": -0.1, "finding": "differs"},
            "its test error is lower: -0.20 points (-0.30 to -0.10; 3 seeds). That is within the 0.5 points "
            "that matter.",
        ),
        (
            {"difference": 0.1, "difference_low": -0.3, "difference_high": 0.5, "finding": "same"},
            "its test error is the same within 0.5 points: +0.10 points (-0.30 to +0.50; 3 seeds).",
        ),
        (
            {"difference": 0.5, "difference_low": -0.1, "difference_high": 1.1, "finding": "open"},
            "whether its test error differs is open: +0.50 points (-0.10 to +1.10; 3 seeds). If it "
            "stays so, about 12 seeds would settle it.",
        ),
        (
            {"difference": 0.5, "difference_low": -0.1, "difference_high": 1.1, "finding": "open"}
            | {"seeds_needed": np.inf},
            "whether its test error differs is open: +0.50 points (-0.10 to +1.10; 3 seeds). No number of "
            "seeds would settle it with these test images; that takes more than 900 images.",
        ),
        (
            {"difference": 0.5, "difference_low": np.nan, "difference_high": np.nan, "pairs": 1},
            "its test error differs by +0.50 points (one seed); one seed is too few for an interval.",
        ),
    ],
)
def test_the_dense_network_at_equal_cost_is_a_finding(control, sentence):
    dense = {"variant": "dense", "role": "dense-equal", "n": 3, "residual": 0.01, "seeds_needed": 12.0}
    dense |= SEEDS | {"finding": np.nan} | control
    start = "A dense network at the base's cost (dense, +1.0 % MACs) against the base: "
    assert equal_cost_sentences(pd.DataFrame([BASE, dense])) == [start + sentence]
    assert equal_cost_sentences(pd.DataFrame([BASE, dense | {"n": 0}])) == []
    assert equal_cost_sentences(pd.DataFrame()) == []
    (far,) = equal_cost_sentences(pd.DataFrame([BASE, dense | {"residual": -0.2}]))
    assert far.startswith(
        "The dense network nearest to the base's cost (dense, -20.0 % MACs) against the base: "
    )
