"""Agreement of connections: 1 with itself in any order of groups, 0 within its interval if drawn by chance."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from analysis.stats import agreed, chance_by_source, jackknifed, shared, shared_by_source

FIRSTS = [0, 8, 16]  # of three sources with 8 channels each


def drawn(draws: np.random.Generator, groups: int = 4, inputs: int = 24, kept: int = 6) -> np.ndarray:
    """Return a mask in which every group reads inputs drawn on their own."""
    order = draws.permuted(np.tile(np.arange(inputs), (groups, 1)), axis=1)
    return order < kept


@given(st.integers(0, 10**6), st.permutations(range(4)), st.booleans())
def test_a_choice_shares_all_with_itself_in_any_order_of_its_groups(seed, order, by_channel):
    mask = drawn(np.random.default_rng(seed))
    found = shared_by_source(mask, mask[order], FIRSTS, by_channel)
    assert found.tolist() == np.add.reduceat(mask.sum(0), FIRSTS).tolist()


@given(st.integers(0, 10**6))
def test_matched_groups_share_at_least_what_unmatched_ones_do(seed):
    draws = np.random.default_rng(seed)
    a, b = drawn(draws), drawn(draws)
    assert shared(a.astype(int), b.astype(int)).sum() >= (a & b).sum()


def test_channels_of_one_source_stand_for_each_other_by_source_only():
    a = np.array([[1, 0, 0, 1], [0, 1, 1, 0]], bool)
    b = np.array([[0, 1, 0, 1], [1, 0, 1, 0]], bool)
    assert shared_by_source(a, b, [0, 2]).tolist() == [0, 2]
    assert shared_by_source(a, b, [0, 2], by_channel=False).tolist() == [2, 2]


def test_chance_after_matching_is_above_the_share_that_is_kept():
    draws = np.random.default_rng(0)
    a, b = drawn(draws), drawn(draws)
    expected = chance_by_source(a, b, FIRSTS, True, draws, 400).sum()
    assert 1.1 * 6 < expected < 2 * 6  # four groups of 6: unmatched they share 6 · 6/24 each


def counts(masks: list[np.ndarray], draws: np.random.Generator, by_channel: bool) -> pd.DataFrame:
    """Return the counts of all pairs of masks, as `frames.agreement` has them."""
    rows = []
    for (i, a), (j, b) in combinations(enumerate(masks), 2):
        found = shared_by_source(a, b, FIRSTS, by_channel)
        expected = chance_by_source(a, b, FIRSTS, by_channel, draws, 30)
        kept = np.add.reduceat(a.sum(0) + b.sum(0), FIRSTS) / 2
        for place, source in enumerate(("stem", "1.1", "1.2")):
            row = {"run": f"r{i}", "other": f"r{j}", "source": source}
            rows.append(row | {"kept": kept[place], "shared": found[place], "expected": expected[place]})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("by_channel", [True, False])
def test_the_interval_of_independent_choices_contains_0(by_channel):
    draws = np.random.default_rng(1)
    studies = [counts([drawn(draws) for _ in range(5)], draws, by_channel) for _ in range(40)]
    found = pd.concat([agreed(study) for study in studies])
    assert abs(found.agreement.mean()) < 0.02
    assert ((found.low <= 0) & (found.high >= 0)).sum() >= 36


def test_choices_with_a_taste_in_common_agree_above_chance():
    draws = np.random.default_rng(2)
    taste = np.repeat([3.0, 1.0, 0.2], 8)  # near sources are chosen more often
    masks = [(draws.exponential(size=(4, 24)) / taste).argsort(1).argsort(1) < 6 for _ in range(6)]
    found = agreed(counts(masks, draws, False))
    assert found.low.item() > 0.2
    assert found.high.item() < 1


def test_the_interval_of_pairs_leaves_out_a_run_at_a_time():
    pairs = pd.MultiIndex.from_tuples(list(combinations("abcd", 2)), names=["run", "other"])
    effects = {"a": 0.1, "b": 0.3, "c": 0.2, "d": 0.4}
    gained = [effects[one] + effects[other] for one, other in pairs]
    parts = pd.DataFrame({"gained": gained, "possible": 1.0}, pairs)
    found = jackknifed(parts)
    mean = np.mean(list(effects.values()))
    assert found.mean == pytest.approx(2 * mean)
    error = 2 * np.std(list(effects.values()), ddof=1) / 2  # of a mean of four, twice
    assert found.high - found.mean == pytest.approx(3.182446 * error, rel=1e-5)
    assert np.isnan(jackknifed(parts.head(1)).low)


def test_the_interval_of_single_runs_is_students():
    runs = pd.Index(["a", "b", "c"], name="run")
    found = jackknifed(pd.DataFrame({"gained": [0.1, 0.2, 0.6], "possible": 1.0}, runs))
    low, high = stats.t.interval(0.95, 2, 0.3, stats.sem([0.1, 0.2, 0.6]))
    assert (found.low, found.mean, found.high) == pytest.approx((low, 0.3, high))
