"""Classes, image size and image counts of a data set, without decoding it.

Known data sets are in a table, folders are listed. None of this loads torch, so that studies are planned fast.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from condense_core.config import DataConfig
from condense_core.tables import DATASETS, implementation

TEST_SHARE = 1 / 3  # of images that are split by seed and have no test images of their own
DIGITS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)  # images of each class
DIGITS_FOR_TRAINING = (119, 121, 118, 122, 120, 121, 121, 119, 116, 120)  # of the fixed split


@dataclass(frozen=True)
class DatasetSummary:
    """Classes, image size and image counts of a data set, before the validation split.

    Of a folder also a hash of its images, by which runs are named, and a note on what was left out.
    """

    num_classes: int
    image_size: int
    class_images: tuple[int, ...]  # for training and validation, of every class
    test_images: int
    content: str | None = None
    note: str = ""

    @property
    def train_images(self) -> int:
        """Images for training and validation."""
        return sum(self.class_images)


def summarise(config: DataConfig) -> DatasetSummary:
    """Count classes and images (before the validation split); decode nothing.

    Raise FileNotFoundError or ValueError for a folder that cannot be used, or if there are too few images for
    the splits.
    """
    known = DATASETS[config.kind].summary
    if config.data_image_size and not DATASETS[config.kind].at_path:
        raise ValueError(f"data_image_size {config.data_image_size}: only for a folder or imagenet")
    found = DatasetSummary(*known) if isinstance(known, tuple) else implementation(known)(config)
    validation = sum(held_out(count, config.validation_fraction) for count in found.class_images)
    fraction, left = config.validation_fraction, found.train_images - validation
    if fraction and not validation:
        images = found.train_images
        raise ValueError(f"validation_fraction {fraction}: too small for {images} images; 0 for none")
    if config.train_images is not None and config.train_images > left:
        images = config.train_images
        raise ValueError(f"train_images {images}: at most {left} are left after the validation split")
    if config.content not in (None, found.content):
        raise ValueError(f"data {config.name!r}: holds other images than those of content {config.content!r}")
    return found


def summarise_digits(config: DataConfig) -> DatasetSummary:
    """Count the digits of the fixed split, or of one by seed."""
    if config.split == "seed":
        return _without_test(DIGITS, 8)
    return DatasetSummary(10, 8, DIGITS_FOR_TRAINING, sum(DIGITS) - sum(DIGITS_FOR_TRAINING))


def _without_test(class_images: tuple[int, ...], image_size: int) -> DatasetSummary:
    """Count the images of a data set whose test images are drawn from all of them."""
    test = [held_out(count, TEST_SHARE) for count in class_images]
    train = tuple(count - drawn for count, drawn in zip(class_images, test, strict=True))
    return DatasetSummary(len(class_images), image_size, train, sum(test))


def held_out(count: int, fraction: float) -> int:
    """Return how many of a class's images are for validation."""
    return math.floor(fraction * count + 0.5)


def summarise_folder(config: DataConfig) -> DatasetSummary:
    """Count the classes and images of a folder. Raise ValueError for a class with too few to be split."""
    from .folders import list_folder  # which loads Pillow

    folder = list_folder(config)
    counts = Counter(folder.train.labels)
    images = tuple(counts[label] for label in range(len(folder.classes)))
    if folder.test is None:
        found = _without_test(images, folder.image_size)
    else:
        found = DatasetSummary(len(images), folder.image_size, images, len(folder.test.paths))
    for name, count, left in zip(folder.classes, images, found.class_images, strict=True):
        tested, validated = count - left, held_out(left, config.validation_fraction)
        if left == validated or (folder.test is None and not tested):
            parts = f"{left - validated} for training, {validated} for validation"
            parts += f", {tested} for the test" if folder.test is None else ""
            raise ValueError(f"data {config.name!r}: class {name!r} has too few images to be split: {parts}")
    return replace(found, content=folder.content(), note=folder.note)
