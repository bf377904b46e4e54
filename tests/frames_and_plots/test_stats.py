"""Statistics, compared with scipy and with cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from scipy import stats as scipy_stats

from analysis.reporting.findings import effect_sentence, findings
from analysis.stats import effects, holm_intervals, mean_interval, pareto, summary

samples = st.lists(st.floats(-50, 50), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-6)


def frame(error) -> pd.DataFrame:
    """Return a finished grid of 3 × 2 × 2 with 3 seeds; `error` maps grouping, growth, connectivity, seed."""
    rows = []
    for grouping in ("learned", "random", "sequential"):
        for growth in ("exponential", "constant"):
            for connectivity in ("full", "block"):
                first = (grouping, growth, connectivity) == ("learned", "exponential", "full")
                rows += [
                    {
                        "variant": f"{grouping}-{growth}-{connectivity}",
                        "role": "base" if first else "grid",
                        "grouping": grouping,
                        "growth": growth,
                        "connectivity": connectivity,
                        "seed": seed,
                        "seeds": 3,
                        "size": 4,
                        "residual": 0.0,
                        "growth_rate": 4,
                        "state": "done",
                        "macs": 10,
                        "flops_paper": 10,
                        "params": 10,
                        "training_macs": 10,
                        "test_error_percent": error(grouping, growth, connectivity, seed),
                    }
                    for seed in range(3)
                ]
    return pd.DataFrame(rows)


@given(samples)
def test_an_interval_is_scipys(values):
    ours, test = mean_interval(values), scipy_stats.ttest_1samp(values, 0)
    assert (ours.low, ours.high) == pytest.approx(tuple(test.confidence_interval()))
    assert ours.p == pytest.approx(test.pvalue)


@given(st.floats(-50, 50), st.integers(2, 9))
def test_values_that_do_not_vary_have_no_interval_and_show_nothing(value, n):
    assert not mean_interval([value] * n).excludes_zero
    assert not holm_intervals([np.full(n, value)])[0].excludes_zero
    ties = mean_interval(np.array([43.83 - 18.5, 49.0 - 23.67]))
    assert math.isnan(ties.low)


def test_too_few_values_have_no_interval():
    assert math.isnan(mean_interval([1.0]).low)
    assert math.isnan(mean_interval([]).mean)


@given(st.lists(samples, min_size=1, max_size=6))
def test_the_intervals_that_exclude_zero_are_those_that_holm_rejects(many):
    intervals = holm_intervals([np.array(values) for values in many])
    p = np.array([scipy_stats.ttest_1samp(values, 0).pvalue for values in many])
    order, rejected = np.argsort(p, kind="stable"), np.zeros(len(p), bool)
    for rank, i in enumerate(order):
        if p[i] >= 0.05 / (len(p) - rank):
            break
        rejected[i] = True
    assert [interval.excludes_zero for interval in intervals] == rejected.tolist()


def test_a_main_effect_is_paired_over_the_other_factors_and_the_seeds():
    rng = np.random.default_rng(0)
    runs = frame(lambda g, w, c, s: 10 + 5 * s + 2 * (g == "random") + 3 * (c == "block") + rng.normal(0, 0.1))
    found = effects(runs).set_index(["factor", "level", "against"])
    assert found.loc[("grouping", "learned", "random"), "difference"] == pytest.approx(-2, abs=0.2)
    assert found.loc[("grouping", "learned", "random"), "pairs"] == 12
    assert found.loc[("connectivity", "full", "block"), "difference"] == pytest.approx(-3, abs=0.2)
    assert found.loc[("connectivity", "full", "block"), "pairs"] == 18
    assert found.effect.to_dict() == {
        ("grouping", "learned", "random"): True,
        ("grouping", "learned", "sequential"): False,
        ("grouping", "random", "sequential"): True,
        ("growth", "exponential", "constant"): False,
        ("connectivity", "full", "block"): True,
    }
    assert found.loc[("grouping", "learned", "random"), "high"] < 0


def test_findings_say_what_the_intervals_carry():
    rng = np.random.default_rng(1)
    runs = frame(lambda g, w, c, s: 10 + 2 * (g == "random") + rng.normal(0, 0.1))
    sentences = findings(effects(runs), summary(runs))
    assert sentences[0].startswith(
        "Learned grouping gives a lower test error than random grouping: -1.98 points"
    )
    assert "no difference shown" in sentences[1]
    assert "includes 0" in sentences[1]


def test_one_pair_is_said_to_be_too_few():
    runs = frame(lambda g, w, c, s: 1.0)
    one = runs[(runs.seed == 0) & (runs.growth == "constant") & (runs.connectivity == "full")]
    assert "too few" in effect_sentence(effects(one).iloc[0])


def test_a_summary_pairs_by_seed_and_leaves_out_what_is_not_done():
    runs = frame(lambda g, w, c, s: 10 * s + 2 * (g == "random"))
    runs.loc[(runs.variant == "random-constant-full") & (runs.seed == 2), "state"] = "diverged"
    rows = summary(runs).set_index("variant")
    assert rows.iloc[0].role == "base"
    assert math.isnan(rows.iloc[0].difference)
    assert rows.loc["random-constant-full", ["n", "seeds", "pairs", "difference"]].tolist() == [2, 3, 2, 2]
    assert rows.loc["random-exponential-full", "error_mean"] == 12
    assert rows.loc["random-exponential-full", "error_sd"] == pytest.approx(10)


def test_runs_without_any_result_give_rows_without_figures():
    runs = frame(lambda g, w, c, s: 1.0).assign(state="failed", test_error_percent=np.nan)
    assert summary(runs).n.tolist() == [0] * 12
    assert effects(runs).empty
    assert not findings(effects(runs), summary(runs))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_pareto_front_is_what_nothing_beats(points):
    costs, errors = zip(*points, strict=True)
    front = pareto(costs, errors)
    for i, point in enumerate(points):
        beaten = any(o != point and o[0] <= point[0] and o[1] <= point[1] for o in points)
        assert (point in {points[k] for k in front}) == (not beaten), i
