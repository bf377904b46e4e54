"""Folders: which files are read, what is left out and said, and the size of the images."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condense_core import DataConfig
from condense_core.data import load, summarise
from condense_core.files import LeftOut


def draw(path: Path, size: int | tuple[int, int] = 8, seed: int = 0) -> None:
    """Save a picture of noise."""
    width, height = (size, size) if isinstance(size, int) else size
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two classes of four images of 8×8 in both splits."""
    for split in ("train", "test"):
        for name in "ab":
            for place in range(4):
                draw(tmp_path / "images" / split / name / f"{place}.png", seed=place)
    return tmp_path / "images"


def config(folder: Path, **settings) -> DataConfig:
    return DataConfig(f"folder:{folder}", **{"validation_fraction": 0.0} | settings)


def count(folder: Path) -> tuple[int, int]:
    """Classes, and training images, as planned and as loaded; what is left out is warned of once."""
    found = summarise(config(folder))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        data = load(config(folder), folder.parent / "data")
    assert [str(one.message) for one in warned if one.category is LeftOut] == [found.note] * bool(found.note)
    assert (len(data.classes), len(data.train)) == (found.num_classes, found.train_images)
    return found.num_classes, found.train_images


STRAYS = [
    ".ipynb_checkpoints/0-checkpoint.png",
    "._0.png",
    ".DS_Store",
    "__MACOSX/._0.png",
    "@eaDir/0.png/x.jpg",
]
STRAYS += [
    "Thumbs.db",
    "thumbs.DB",
    "desktop.ini",
    "Desktop.ini",
    ".git/x.png",
    "$RECYCLE.BIN/0.png",
    ".hidden.png",
]


@pytest.mark.parametrize("place", ["train/a", "test/b", "train/a/deeper", "train", "test"])
@pytest.mark.parametrize("stray", STRAYS)
def test_what_systems_and_programs_leave_is_no_image_and_no_class_and_is_counted(folder, stray, place):
    draw(folder / "x.png")
    left = folder / place / stray
    left.parent.mkdir(parents=True, exist_ok=True)
    (folder / "x.png").rename(left)
    assert count(folder) == (2, 8)
    entry = stray.split("/")[0]
    assert f"left out 1 hidden or system entry ({entry}: 1)" in summarise(config(folder)).note


def test_files_of_every_suffix_that_is_read_are_used_and_others_are_counted_by_suffix(folder):
    for place in range(40):
        draw(folder / "train" / "b" / f"{place}.png")
        (folder / "train" / "b" / f"{place}.png").rename(folder / "train" / "b" / f"{place}.JFIF")
    for place, name in enumerate(["1.heic", "2.HEIC", "labels.csv", "README"]):
        (folder / "train" / "ab"[place % 2] / name).write_bytes(b"x")
    draw(folder / "train" / "loose.png")
    assert count(folder) == (2, 44)
    note = summarise(config(folder)).note
    assert note.endswith("left out 5 other files (.heic: 2, .csv: 1, no suffix: 1, train/*.png: 1)")


def test_a_split_that_is_not_used_is_named(folder):
    draw(folder / "val" / "a" / "0.png")
    assert f"left out {folder / 'val'} ({folder / 'test'} is used)" in summarise(config(folder)).note


def test_a_folder_that_is_read_whole_is_not_spoken_of(folder):
    assert summarise(config(folder)).note == ""
    assert count(folder) == (2, 8)


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_without_class_folders_are_counted_and_the_remedy_is_named(folder, split):
    (folder / "test").rename(folder / "val")
    for path in sorted((folder / split).rglob("*.png")):
        path.rename(folder / split / f"{path.parent.name}{path.name}")
    for name in "ab":
        (folder / split / name).rmdir()
    with pytest.raises(ValueError, match=rf"{split} holds 8 images and no class folders; move each image into"):
        summarise(config(folder))


def test_a_class_without_a_folder_in_the_test_split_is_named(folder):
    (folder / "test" / "b").rename(folder.parent / "b")
    with pytest.raises(ValueError, match=r"class 'b' of .*train has no folder in .*test"):
        summarise(config(folder))


def resize(folder: Path, sizes: list[int | tuple[int, int]]) -> None:
    for place, path in enumerate(sorted(folder.rglob("*.png"))):
        draw(path, sizes[place % len(sizes)])


def test_the_size_is_that_of_most_images_and_the_others_are_named(folder):
    resize(folder, [32])
    odd = folder / "train" / "a" / "0.png"
    draw(odd, 16)
    found = summarise(config(folder))
    assert found.image_size == 32
    assert f"resized to 32 pixels, the size of most: {odd} (16×16) of 8 images looked at" in found.note
    assert summarise(config(folder, data_image_size=16)).image_size == 16
    with pytest.warns(LeftOut, match="resized to 32 pixels"):
        assert load(config(folder), folder.parent / "data").image_size == 32


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(500, 375), (375, 500), (300, 224), 16], 224),  # photographs, whatever their shapes
        ([(224, 230), 400], 224),
        ([100, 100, (100, 90)], 100),
        ([8, 8, 8, 300], 8),
    ],
)
def test_photographs_are_cropped_to_224_and_small_images_keep_their_size(folder, sizes, expected):
    resize(folder, sizes)
    assert summarise(config(folder)).image_size == expected


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([(8, 9)], "0.png is 8×9, not square; give data_image_size"),
        ([10, 11, 12, 13], "the images have many sizes, from 10×10 to 13×13; give data_image_size"),
    ],
)
def test_without_a_size_that_most_have_it_must_be_given(folder, sizes, message):
    resize(folder, sizes)
    with pytest.raises(ValueError, match=message):
        summarise(config(folder))
    assert summarise(config(folder, data_image_size=8)).image_size == 8


def test_imagenet_is_cropped_to_224_and_no_file_is_opened_for_it(folder):
    assert summarise(DataConfig(f"imagenet:{folder}", 0.0)).image_size == 224


def test_a_name_that_a_mac_writes_in_another_form_is_the_same_name(folder):
    whole = summarise(config(folder)).content
    for path, name in ((folder / "train/a", "e\u0301"), (folder / "test/a", "\u00e9")):
        path.rename(path.with_name(name))
        for image in (path.with_name(name)).iterdir():
            image.rename(image.with_name(f"{name}{image.name}"))
    found = summarise(config(folder))
    assert load(config(folder), folder.parent / "data").classes == ("b", "\u00e9")
    (folder / "train/e\u0301").rename(folder / "train/\u00e9")
    for image in (folder / "train/\u00e9").iterdir():
        image.rename(image.with_name(image.name.replace("e\u0301", "\u00e9")))
    assert summarise(config(folder)).content == found.content != whole
    (folder / "train/e\u0301").mkdir()
    with pytest.raises(ValueError, match=r"train has the folders .* of one class"):
        summarise(config(folder))
