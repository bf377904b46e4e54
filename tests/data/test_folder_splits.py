"""Folders without test images: each seed draws its own, of every class alike, and they teach nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.runs import small_model
from hypothesis import given, settings, strategies as st
from PIL import Image

from analysis import frames
from analysis.engines.single_run import execute
from condense_core import DataConfig, RecipeConfig, RunConfig
from condense_core.data import Augmentation, DecodedImages, Normalisation, Source, load, read, split, summarise
from condense_core.data.augmentation import measure_normalisation
from condense_core.store import RunStore

pytestmark = pytest.mark.filterwarnings("ignore::condense_core.files.LeftOut")

IMAGES = {"a": 12, "b": 9, "c": 4}
TESTED = {"a": 4, "b": 3, "c": 1}  # a third of each


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path)


@pytest.fixture(params=["train", "."])
def folder(request, tmp_path) -> Path:
    """Three classes of unequal size, in `train/` or in the folder itself, and no test images."""
    root = tmp_path / "images"
    for seed, name in enumerate(IMAGES):
        for place in range(IMAGES[name]):
            draw(root / request.param / name / f"{place}.png", 100 * seed + place)
    return root


def config(folder: Path, **settings) -> DataConfig:
    return DataConfig(f"folder:{folder}", **{"split": "seed"} | settings)


@pytest.fixture(params=[None, 72], ids=["decoded", "streamed"])
def drawn(request, folder):
    """A function that loads the folder as a seed sees it: its images decoded, or streamed."""
    return lambda seed, **settings: load(
        config(folder, data_image_size=request.param, **settings), folder.parent / "data", seed=seed
    )


@pytest.mark.parametrize("kind", ["seed", "fixed"])
def test_a_third_of_each_class_is_tested_and_no_image_is_in_two_splits(drawn, kind):
    data = drawn(3, split=kind, validation_fraction=0.25)
    assert data.test.labels.bincount().tolist() == list(TESTED.values())
    assert data.validation.labels.bincount().tolist() == [2, 2, 1]
    assert len(data.train) + len(data.validation) + len(data.test) == 25
    assert len({*data.places["test"].tolist(), *data.places["validation"].tolist()}) == 13


def test_a_seed_draws_the_same_again_and_all_images_are_tested_by_some_seed(drawn):
    tests = [drawn(seed).places["test"].tolist() for seed in range(12)]
    assert drawn(5).places["test"].tolist() == tests[5]
    assert {place for test in tests for place in test} == {*range(25)}
    assert len({drawn(seed).fingerprint for seed in range(3)}) == 1


def test_a_fixed_split_is_the_same_for_all_seeds(drawn):
    first, other = (drawn(seed, split="fixed") for seed in (0, 4))
    assert torch.equal(first.places["test"], other.places["test"])
    assert first.fingerprint == other.fingerprint


def test_a_summary_counts_what_is_loaded(folder):
    found, data = summarise(config(folder)), load(config(folder), folder.parent / "data")
    assert (found.test_images, found.train_images) == (len(data.test), len(data.train) + len(data.validation))
    assert found.note.endswith("has no test/ or val/, so a third of each class is drawn for the test")


def test_a_folder_with_and_without_train_holds_the_same_data(folder, tmp_path):
    source = folder / "train" if (folder / "train").is_dir() else folder
    shutil.copytree(source, tmp_path / "flat")
    shutil.copytree(source, tmp_path / "below" / "train")
    assert len({summarise(config(tmp_path / name)).content for name in ("flat", "below", "images")}) == 1


@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_the_normalisation_knows_the_training_images_alone(folder, fraction):
    chosen = config(folder, validation_fraction=fraction, train_images=8)
    data = load(chosen, folder.parent / "data", seed=1)
    own = measure_normalisation(data.train.images)
    assert own == data.train.normalise == data.test.normalise
    assert all(part.normalise == own for part in (data.train, data.validation, data.test) if part)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=2, max_size=6), st.integers(0, 2**40))
def test_every_class_of_two_images_or_more_is_trained_and_tested(counts, seed):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    pixels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    images = DecodedImages(pixels, labels, Normalisation((0.5,) * 3, (0.5,) * 3), Augmentation(0, flip=False))
    data = split(Source("x", tuple(map(str, counts)), images, None), DataConfig("digits", split="seed"), seed)
    parts = [part for part in (data.train, data.validation, data.test) if part]
    assert sorted(torch.cat([part.images[:, 0, 0, 0] for part in parts]).tolist()) == list(range(len(labels)))
    assert data.test.labels.bincount().tolist() == [int(count / 3 + 0.5) for count in counts]
    assert data.train.labels.unique().tolist() == list(range(len(counts)))


def test_the_variants_of_a_seed_are_tested_on_the_same_images(folder, tmp_path):
    store = RunStore(tmp_path / "runs")
    store.create()
    for seed in (0, 1):
        for grouping in ("learned", "random"):
            model = small_model(grouping=grouping, num_classes=3)
            run = RunConfig(model, RecipeConfig(epochs=1), config(folder), seed)
            assert execute(run, store, tmp_path / "data").state == "done"
    said = frames.outcomes(store)
    seeds = (
        said.merge(frames.runs(store)[["run", "seed"]], on="run").groupby(["seed", "run"]).image.apply(tuple)
    )
    assert (seeds.groupby("seed").nunique() == 1).all()
    assert seeds.nunique() == 2


@pytest.mark.parametrize(
    ("images", "fraction", "message"),
    [
        (
            {"a": 9, "lone": 1},
            0.0,
            "'lone' has too few images to be split: 1 for training, 0 for validation, 0 ",
        ),
        ({"a": 9, "few": 2}, 0.5, "'few' has too few images to be split: 0 for training, 1 for validation, 1 "),
        ({"a": 9}, 0.1, r"must hold train/ and test/ \(or val/\), or at least 2 class folders, has 1"),
        ({}, 0.1, r"must hold train/ and test/ \(or val/\), or at least 2 class folders, has 0"),
        ({"train/a": 9, "train/b": 1}, 0.1, "class 'b' has too few images to be split"),
        ({"train/a": 3}, 0.1, "train must hold at least 2 class folders, has 1"),
        (
            {"train/a": 1, "train/b": 3, "test/a": 1, "test/b": 1},
            0.5,
            "'a' has too few .*: 0 for training, 1 for",
        ),
        ({"test/a": 2, "test/b": 2}, 0.1, r"must hold train/ and test/ \(or val/\)$"),
    ],
)
def test_what_cannot_be_split_is_named(tmp_path, images, fraction, message):
    (tmp_path / "images").mkdir()
    for name, count in images.items():
        for place in range(count):
            draw(tmp_path / "images" / name / f"{place}.png", place)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(config(tmp_path / "images", validation_fraction=fraction), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_imagenet_has_test_images_of_its_own(folder):
    with pytest.raises(FileNotFoundError, match=r"must hold train/ and test/ \(or val/\)"):
        summarise(DataConfig(f"imagenet:{folder}"))


def test_folders_beside_train_that_are_not_read_are_named(tmp_path):
    for name in ("train/a", "train/b", "valid/a", "valid/b"):
        for place in range(9):
            draw(tmp_path / "images" / name / f"{place}.png", place)
    note = summarise(config(tmp_path / "images")).note
    assert f"left out {tmp_path / 'images' / 'valid'}; has no test/ or val/" in note
