"""What the test images add to an interval, compared with brute force."""

from __future__ import annotations

import numpy as np
import pytest
from test_comparisons import noisy, study

from analysis.stats import Outcomes, comparisons, image_covariance

IMAGES = 400


def runs_and_outcomes(first_image=lambda seed: 0, seeds=4, hard=1.0):
    """Return a study whose runs get images wrong by their difficulty, and what each run said."""
    draws = np.random.default_rng(1)
    difficulty = {name: draws.normal(0, hard, 5 * IMAGES) for name in ("learned", "random", "all")}
    runs = study(noisy(), ("learned", "random"), seeds=seeds)
    wrong, images = {}, {}
    for place, row in runs.iterrows():
        tested = np.arange(IMAGES) + first_image(row.seed)
        score = difficulty["all"][tested] + difficulty[row.grouping][tested] + draws.normal(0, 1, IMAGES)
        wrong[row.run], images[row.run] = score < -2.5, tested
        runs.loc[place, "test_error_percent"] = 100 * wrong[row.run].mean()
    return runs.assign(test_images=IMAGES), Outcomes(wrong, images)


def test_the_covariance_is_the_mean_over_all_pairs_of_different_seeds():
    table = np.random.default_rng(0).normal(size=(3, 4, 50))
    pairs = [(a, b) for a in range(4) for b in range(4) if a != b]
    brute = np.mean([table[:, a] @ table[:, b].T for a, b in pairs], axis=0)
    assert image_covariance(table) == pytest.approx(brute)
    many = np.stack([table, 2 * table])
    assert image_covariance(many) == pytest.approx(np.stack([brute, 4 * brute]))


def test_the_variance_of_a_difference_is_that_of_two_way_analysis():
    """Seeds × images as random effects: (MS of images − MS of seeds × images) / (seeds × images)."""
    runs, outcomes = runs_and_outcomes()
    row = comparisons(runs, outcomes).iloc[0]
    names = runs.pivot(index="seed", columns="variant", values="run")
    signs = {name: (1 if name.startswith("learned") else -1) / 4 for name in names}
    delta = np.array(
        [
            100 * sum(sign * outcomes.wrong[names.loc[seed, name]] for name, sign in signs.items())
            for seed in names.index
        ]
    )
    seeds, images = delta.shape
    by_image = delta.mean(0) - delta.mean()
    rest = delta - delta.mean(0) - delta.mean(1, keepdims=True) + delta.mean()
    ms_images = seeds * (by_image**2).sum() / (images - 1)
    ms_rest = (rest**2).sum() / ((images - 1) * (seeds - 1))
    expected = (ms_images - ms_rest) / (seeds * images)
    assert row.se_images**2 == pytest.approx(expected * (images - 1) / images)


def test_an_interval_with_the_images_contains_the_one_without():
    runs, outcomes = runs_and_outcomes()
    alone, both = comparisons(runs), comparisons(runs, outcomes)
    assert (both.low <= alone.low).all()
    assert (both.high >= alone.high).all()
    assert (alone.covers == "seeds").all()
    assert (both.covers == "seeds and images").all()
    assert both.se_seeds.tolist() == alone.se_seeds.tolist()


def test_images_that_no_two_seeds_share_add_nothing_beyond_one_image():
    apart, outcomes = runs_and_outcomes(lambda seed: seed * IMAGES)
    shared, same = runs_and_outcomes()
    half, partly = runs_and_outcomes(lambda seed: seed * IMAGES // 2)
    spread = [
        comparisons(*each).se_images.iloc[0] for each in ((apart, outcomes), (half, partly), (shared, same))
    ]
    assert spread[0] < spread[1] < spread[2]
    assert spread[0] == pytest.approx(100 / (4 * IMAGES) * np.sqrt(0.5 / 2))


def test_runs_without_outcomes_leave_their_comparisons_to_the_seeds():
    runs, outcomes = runs_and_outcomes()
    known = {run: wrong for run, wrong in outcomes.wrong.items() if not run.startswith("random-constant-block")}
    found = comparisons(runs, Outcomes(known, outcomes.images)).set_index("variant")
    assert found.covers["random-constant-block"] == "seeds"
    assert found.covers["random-constant-full"] == "seeds and images"
    assert found.se_images.isna()["random-constant-block"]


def test_seeds_cannot_settle_what_the_images_leave_open():
    runs, outcomes = runs_and_outcomes(hard=3.0)
    row = comparisons(runs, outcomes, meaningful=0.2).iloc[0]
    assert row.finding == "open"
    assert row.seeds_needed == np.inf
    assert row.images_needed > IMAGES
    assert row.half_width_twice_images < (row.high - row.low) / 2
    assert row.half_width_next_seed < (row.high - row.low) / 2
    assert comparisons(runs, outcomes, meaningful=20).seeds_needed.iloc[0] < 10


def test_the_seeds_that_are_said_to_settle_a_difference_are_enough_for_it():
    runs = study(noisy(0.6), ("learned", "random"), seeds=3)
    row = comparisons(runs, meaningful=0.5).iloc[0]
    assert row.finding == "open"
    half = max(abs(row.difference), 0.5 - abs(row.difference))
    many = comparisons(study(noisy(0.6), ("learned", "random"), seeds=int(row.seeds_needed))).iloc[0]
    assert (many.high - many.low) / 2 == pytest.approx(half, rel=0.5)
    assert row.seeds_needed > 3


@pytest.mark.parametrize(
    ("wrong", "images", "message"),
    [
        ({"a": [True, False]}, {"a": [1]}, "images of a: 1, but there are 2 answers"),
        ({"a": [True]}, {}, "images of a: 0, but there are 1 answers"),
        ({"a": [True, False]}, {"a": [1, 1]}, "images of a: an image stands twice"),
    ],
)
def test_outcomes_that_do_not_fit_are_refused(wrong, images, message):
    arrays = [{run: np.array(values) for run, values in part.items()} for part in (wrong, images)]
    with pytest.raises(ValueError, match=message):
        Outcomes(*arrays)


def test_outcomes_are_taken_from_their_frame(small_store):
    from analysis import frames

    frame = frames.outcomes(small_store)
    outcomes = Outcomes.of_frame(frame)
    runs = frames.study_runs(small_store, "small")
    for row in runs.itertuples():
        assert 100 * outcomes.wrong[row.run].mean() == pytest.approx(row.test_error_percent)
    assert (comparisons(runs, outcomes).covers == "seeds and images").all()
    read = frames.answers(small_store)
    assert read.wrong.keys() == outcomes.wrong.keys()
    for run, wrong in read.wrong.items():
        assert wrong.tolist() == outcomes.wrong[run].tolist()
        assert read.images[run].tolist() == outcomes.images[run].tolist()
