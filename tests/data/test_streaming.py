"""Large images: threads read them, and nothing else of the process is touched."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from condense_core import DataConfig
from condense_core.data import load
from condense_core.data.image_file import random_resized_crop


@pytest.fixture
def data(tmp_path):
    draws = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(6):
                pixels = draws.integers(0, 255, (80, 90, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / label / f"{i}.png")
    return load(DataConfig(f"folder:{tmp_path}", validation_fraction=0, data_image_size=72), tmp_path / "cache")


def test_reading_starts_no_process_and_draws_nothing_from_the_generator_of_dropout(data, monkeypatch):
    monkeypatch.setattr(os, "fork", None)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    batches = list(data.training_batches(0, 0, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(batches) == 3


def test_threads_end_when_an_epoch_ends_or_is_left(data):
    before = threading.active_count()
    list(data.training_batches(0, 0, 4))
    assert threading.active_count() == before
    batches = data.training_batches(0, 0, 4)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_a_file_that_goes_away_is_named_as_where_it_is_read(data):
    files = data.train.files
    lost = files.root / files.paths[0]
    lost.unlink()
    with pytest.raises(ValueError, match=f"cannot read the image {lost}"):
        list(data.training_batches(0, 0, 4))


@pytest.mark.parametrize("size", [(90, 80), (3, 200), (500, 7), (1, 1), (72, 72)])
def test_a_crop_is_torchvisions(size):
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    whole = v2.Compose([v2.RandomResizedCrop(64, antialias=True), v2.RandomHorizontalFlip()])
    for seed in range(8):
        torch.manual_seed(seed)
        assert np.array_equal(random_resized_crop(image, 64, seed), whole(image))


def test_a_home_that_nobody_has_is_a_folder_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="there is no folder ~nobody-of-this-name/images"):
        load(DataConfig("folder:~nobody-of-this-name/images"))
