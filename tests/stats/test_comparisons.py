"""The comparisons of a study: worked out by hand, with missing runs, and as findings."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from scipy import stats as scipy_stats

from analysis.findings.effects import effect_sentence
from analysis.findings.study_findings import comparison_sentences
from analysis.stats import (
    Outcomes,
    comparisons,
    effects,
    effects_by_seed,
    interactions,
    mean_interval,
    pareto,
    summary,
)

samples = st.lists(st.floats(-50, 50), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-6)
GROUPINGS, GROWTHS, CONNECTIVITIES = (
    ("learned", "random", "sequential"),
    ("exponential", "constant"),
    ("full", "block"),
)


def study(error, groupings=GROUPINGS, growths=GROWTHS, connectivities=CONNECTIVITIES, seeds=3) -> pd.DataFrame:
    """Return the finished runs of a grid; `error` maps grouping, growth, connectivity, seed to percent."""
    base = (groupings[0], growths[0], connectivities[0])
    cells = product(groupings, growths, connectivities)
    rows = [
        {
            "run": f"{'-'.join(cell)}-s{seed}",
            "variant": "-".join(cell),
            "role": "base" if cell == base else "grid",
            **dict(zip(("grouping", "growth", "connectivity"), cell, strict=True)),
            "seed": seed,
            "test_error_percent": float(error(*cell, seed)),
        }
        for cell in cells
        for seed in range(seeds)
    ]
    same = dict.fromkeys(("macs", "flops_paper", "params", "training_macs"), 10)
    same |= {"seeds": seeds, "size": 4, "residual": 0.0, "growth_rate": 4, "state": "done", "test_images": 600}
    return pd.DataFrame(rows).assign(**same)


def noisy(spread=0.5, **levels):
    """Return a function of errors: 10 %, what each level adds, and independent noise."""
    draws = np.random.default_rng(0)
    return lambda *cell: 10 + sum(levels.get(str(name), 0) for name in cell) + draws.normal(0, spread)


def two(a, b) -> pd.DataFrame:
    """Return a study of two variants with these errors, seed by seed."""
    errors = {"learned": a, "random": b}
    return study(lambda g, w, c, s: errors[g][s], ("learned", "random"), ("exponential",), ("full",), len(a))


@given(samples)
def test_an_interval_of_a_mean_is_scipys(values):
    ours, test = mean_interval(values), scipy_stats.ttest_1samp(values, 0)
    assert (ours.low, ours.high) == pytest.approx(tuple(test.confidence_interval()))
    assert ours.p == pytest.approx(test.pvalue)


def test_too_few_values_have_no_interval_of_a_mean():
    assert math.isnan(mean_interval([1.0]).low)
    assert math.isnan(mean_interval([]).mean)
    assert math.isnan(mean_interval(np.array([43.83 - 18.5, 49.0 - 23.67])).low)  # ties


def test_two_variants_are_compared_by_a_paired_t_test_over_the_seeds():
    a, b = [2.5, 3.5, 3.0, 4.0, 2.0], [2.0, 2.5, 2.75, 3.0, 2.5]
    (row,) = effects(two(a, b)).itertuples()
    test = scipy_stats.ttest_rel(a, b)
    assert (row.low, row.high) == pytest.approx(tuple(test.confidence_interval()))
    assert row.p == pytest.approx(test.pvalue, rel=1e-6)
    assert (row.seeds, row.pairs, row.df, row.covers) == (5, 5, 4, "seeds")


def test_the_seed_is_the_unit_however_many_cells_the_grid_has():
    shift = {0: -0.5, 1: 0.0, 2: 0.8}
    runs = study(lambda g, w, c, s: 10 + (1 + shift[s]) * (g == "random"), ("learned", "random"))
    row = effects(runs).iloc[0]
    own = np.var([-0.5, 0.0, 0.8], ddof=1)
    found = comparisons(runs)
    scatter = (found.se_seeds**2 * found.seeds).iloc[0]
    assert (row.pairs, row.seeds) == (12, 3)
    assert 0.5 * own < scatter < 1.5 * own  # twelve pairs as independent would have a scatter of a third
    assert row.low < 0 < 1 - row.difference < row.high + 2.2


def test_a_main_effect_is_the_mean_over_the_other_factors():
    runs = study(noisy(0.05, random=2, block=3), seeds=5)
    found = effects(runs).set_index(["factor", "level", "against"])
    assert found.loc[("grouping", "learned", "random"), "difference"] == pytest.approx(-2, abs=0.1)
    assert found.loc[("connectivity", "full", "block"), "difference"] == pytest.approx(-3, abs=0.1)
    assert found.finding.to_dict() == {
        ("grouping", "learned", "random"): "differs",
        ("grouping", "learned", "sequential"): "same",
        ("grouping", "random", "sequential"): "differs",
        ("growth", "exponential", "constant"): "same",
        ("connectivity", "full", "block"): "differs",
    }
    assert found.effect.tolist() == (found.finding == "differs").tolist()
    assert found.loc[("grouping", "learned", "random"), ["pairs", "seeds"]].tolist() == [20, 5]


def test_an_interaction_is_a_difference_of_differences():
    runs = study(lambda g, w, c, s: noise(g, w, c, s) + 2 * (g == "learned" and c == "full"), seeds=5)
    found = interactions(runs).set_index(["level", "against", "other_level", "other_against"])
    assert found.loc[("learned", "random", "full", "block"), "difference"] == pytest.approx(2, abs=0.2)
    assert found.loc[("random", "sequential", "full", "block"), "difference"] == pytest.approx(0, abs=0.2)
    assert len(found) == 3 + 3 + 1


noise = noisy(0.05)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_an_interval_excludes_zero_exactly_if_its_corrected_p_is_below_5_percent(seeds):
    found = comparisons(study(noisy(0.5, random=1.0, block=0.5), seeds=seeds))
    assert (found.effect == (found.p < 0.05)).all()
    assert (found.effect == ((found.low > 0) | (found.high < 0))).all()
    assert found.p.between(0, 1).all()


def test_what_is_compared_twice_counts_once_and_has_one_interval():
    runs = study(noisy(), ("learned", "random"), ("exponential",), ("full",))
    found = comparisons(runs)
    main, difference = found[found.kind == "main"].iloc[0], found[found.kind == "difference"].iloc[0]
    assert (main.low, main.high) == pytest.approx((-difference.high, -difference.low))
    alone = mean_interval(effects_by_seed(runs).difference)
    assert (main.low, main.high) == pytest.approx((alone.low, alone.high))


def test_a_seed_that_lacks_one_cell_is_kept_without_that_cell():
    runs = study(noisy(), ("learned", "random"))
    gone = (runs.variant == "random-constant-full") & (runs.seed == 2)
    row = effects(runs.assign(state=np.where(gone, "diverged", "done"))).iloc[0]
    assert (row.seeds, row.pairs) == (3, 9)  # three of four combinations, in every seed
    left = runs[runs.growth.ne("constant") | runs.connectivity.ne("full")]
    means = left.groupby("grouping").test_error_percent.mean()
    assert row.difference == pytest.approx(means["learned"] - means["random"])


def test_a_seed_that_has_hardly_begun_is_left_out():
    runs = study(noisy(), ("learned", "random"))
    begun = (runs.seed < 2) | runs.variant.isin(["learned-exponential-full", "random-exponential-full"])
    row = effects(runs[begun]).iloc[0]
    assert (row.seeds, row.pairs) == (2, 8)


def test_one_seed_has_no_interval_and_two_have_one():
    runs = study(noisy())
    one, both = effects(runs[runs.seed == 0]), effects(runs[runs.seed < 2])
    assert one.low.isna().all()
    assert not one.effect.any()
    assert "one seed is too few for an interval" in effect_sentence(one.iloc[0])
    assert np.isfinite(both.low).all()


def test_ties_have_the_interval_of_rounding_to_whole_images():
    tied = two([2.0, 3.0, 4.0], [1.5, 2.5, 3.5])
    (row,) = effects(tied).itertuples()
    rounding = (100 / 600) ** 2 / 12
    assert row.se_seeds == pytest.approx(np.sqrt(2 * rounding / 3))
    (unknown,) = effects(tied.drop(columns="test_images")).itertuples()
    assert math.isnan(unknown.low)
    assert "without variation there is no interval" in effect_sentence(pd.Series(unknown._asdict()))


@pytest.mark.parametrize(
    ("spread", "shift", "start"),
    [
        (0.02, 2, "Random grouping gives a lower test error than learned grouping: -2.0"),
        (0.02, 0.2, "Random grouping gives a lower test error than learned grouping: -0.2"),
        (0.02, 0, "Random grouping and learned grouping give the same test error within 0.5 points: "),
        (2.0, 0, "Random grouping against learned grouping is open: "),
    ],
)
def test_a_sentence_says_what_is_known(spread, shift, start):
    errors = noisy(spread, learned=shift)
    sentence = effect_sentence(effects(study(errors, ("random", "learned"), seeds=6)).iloc[0])
    assert sentence.startswith(start)
    assert ("within the 0.5 points that matter" in sentence) == (shift == 0.2)
    assert ("seeds would settle it" in sentence) == (spread == 2)


def test_a_wider_margin_makes_more_differences_the_same():
    runs = study(noisy(0.3), seeds=5)
    assert not (effects(runs, meaningful=0.01).finding == "same").any()
    assert (effects(runs, meaningful=20).finding == "same").all()
    with pytest.raises(ValueError, match="meaningful -1: must be more than 0 points"):
        effects(runs, meaningful=-1)


def test_findings_say_that_the_test_images_are_not_covered_without_outcomes():
    runs = study(noisy())
    note = "The intervals cover the scatter of the seeds, but not that of the test images."
    assert comparison_sentences(effects(runs), summary(runs), pd.DataFrame())[-1] == note
    draws = np.random.default_rng(0)
    wrong = {run: draws.random(600) < 0.1 for run in runs.run}
    outcomes = Outcomes(wrong, dict.fromkeys(wrong, np.arange(600)))
    assert note not in comparison_sentences(effects(runs, outcomes), summary(runs, outcomes), pd.DataFrame())


def test_findings_name_the_intervals_that_leave_out_the_test_images():
    runs, draws = study(noisy(), ("learned", "random", "sequential")), np.random.default_rng(0)
    known = runs.run[runs.grouping != "learned"]
    outcomes = Outcomes({run: draws.random(600) < 0.1 for run in known}, dict.fromkeys(known, np.arange(600)))
    found = effects(runs, outcomes)
    last = comparison_sentences(found, summary(runs, outcomes), pd.DataFrame())[-1]
    assert last.startswith(
        f"{(found.covers == 'seeds').sum()} of these {len(found)} intervals cover the scatter"
    )
    assert "learned grouping against random grouping; learned grouping against sequential grouping" in last
    assert "random grouping against sequential" not in last


def test_runs_that_are_not_of_a_study_are_refused():
    with pytest.raises(ValueError, match="runs: must be those of a study"):
        effects(study(noisy()).drop(columns="role"))


def test_a_summary_pairs_by_seed_and_leaves_out_what_is_not_done():
    runs = study(lambda g, w, c, s: 10 * s + 2 * (g == "random"))
    runs.loc[(runs.variant == "random-constant-full") & (runs.seed == 2), "state"] = "diverged"
    rows = summary(runs).set_index("variant")
    assert rows.iloc[0].role == "base"
    assert math.isnan(rows.iloc[0].difference)
    assert rows.loc["random-constant-full", ["n", "seeds", "pairs", "difference"]].tolist() == [2, 3, 2, 2]
    assert rows.loc["random-exponential-full", "error_mean"] == 12
    assert rows.loc["random-exponential-full", "error_sd"] == pytest.approx(10)


def test_runs_without_any_result_give_rows_without_figures():
    runs = study(lambda g, w, c, s: 1.0).assign(state="failed", test_error_percent=np.nan)
    assert summary(runs).n.tolist() == [0] * 12
    assert effects(runs).empty
    assert not comparison_sentences(effects(runs), summary(runs), pd.DataFrame())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_pareto_front_is_what_nothing_beats(points):
    costs, errors = zip(*points, strict=True)
    front = pareto(costs, errors)
    for i, point in enumerate(points):
        beaten = any(o != point and o[0] <= point[0] and o[1] <= point[1] for o in points)
        assert (point in {points[k] for k in front}) == (not beaten), i
