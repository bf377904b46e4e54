"""Splits by seed: what a seed varies, and what the variants of a seed share."""

from __future__ import annotations

import pytest
import torch

from condense_core.config import DataConfig
from condense_core.data import load, read, split, spread, summarise

BY_SEED = DataConfig("digits", split="seed")


@pytest.fixture(scope="module")
def source():
    return read(BY_SEED)


def places(source, seed):
    """The places of training (found by their pixels), validation and test images of a seed."""
    data = split(source, BY_SEED, seed)
    whole = {image.numpy().tobytes(): place for place, image in enumerate(source.train.images)}
    train = [whole[image.numpy().tobytes()] for image in data.train.images]
    return train, data.places["validation"].tolist(), data.places["test"].tolist()


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_the_splits_of_a_seed_are_disjoint_and_use_every_image(source, seed):
    train, validation, test = places(source, seed)
    assert sorted([*train, *validation, *test]) == list(range(1797))


def test_every_class_has_the_same_share_of_each_split(source):
    data = split(source, BY_SEED, 3)
    counts = source.train.labels.bincount()
    assert torch.equal(data.test.labels.bincount(), (counts / 3 + 0.5).long())
    rest = counts - data.test.labels.bincount()
    assert torch.equal(data.validation.labels.bincount(), (rest / 10 + 0.5).long())


def test_seeds_draw_other_test_images_and_all_images_serve(source):
    tests = [set(places(source, seed)[2]) for seed in range(12)]
    assert len({frozenset(test) for test in tests}) == 12
    assert len(set.union(*tests)) > 0.98 * 1797


def test_the_same_seed_sees_the_same_data_and_the_fingerprint_is_that_of_the_whole_data(source):
    first, again, other = (split(source, BY_SEED, seed) for seed in (1, 1, 2))
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.test.labels, again.test.labels)
    assert not torch.equal(first.places["test"], other.places["test"])
    assert first.fingerprint == other.fingerprint == source.fingerprint
    assert load(DataConfig("digits")).fingerprint != source.fingerprint


def test_places_point_to_the_images_and_the_normalisation_is_that_of_the_training_images(source):
    data = split(source, BY_SEED, 5)
    assert torch.equal(source.train.images[data.places["test"]], data.test.images)
    assert torch.equal(source.train.images[data.places["validation"]], data.validation.images)
    assert data.test.normalise == data.train.normalise
    assert data.test.normalise != split(source, BY_SEED, 6).test.normalise


def test_a_summary_counts_what_a_split_by_seed_gives(source):
    found, data = summarise(BY_SEED), split(source, BY_SEED, 0)
    assert found.test_images == len(data.test)
    assert found.train_images == len(data.train) + len(data.validation)


def test_a_fixed_split_is_the_same_for_all_seeds_and_as_it_was():
    first, other = load(DataConfig("digits"), seed=0), load(DataConfig("digits"), seed=4)
    assert first.fingerprint == other.fingerprint == load(DataConfig("digits")).fingerprint


@pytest.mark.parametrize("count", [40, 64, 5000])
def test_a_part_of_images_that_are_listed_class_by_class_has_every_class(source, count):
    by_class = source.train.subset(source.train.labels.argsort())
    part = spread(by_class, count)
    assert len(part) == min(count, 1797)
    assert set(part.labels.tolist()) == set(range(10))
    counts = part.labels.bincount()
    assert counts.max() - counts.min() <= max(2, 0.05 * len(part))
