"""Classes, image size and image counts of a data set, without decoding it.

Known data sets are in a table, folders are listed. None of this loads torch, so that studies are planned fast.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from condense_core.config import DataConfig


@dataclass(frozen=True)
class DatasetSummary:
    """Classes, image size and image counts of a data set, before the validation split."""

    num_classes: int
    image_size: int
    class_images: tuple[int, ...]  # for training and validation, of every class
    test_images: int

    @property
    def train_images(self) -> int:
        """Images for training and validation."""
        return sum(self.class_images)


KNOWN = {
    "digits": DatasetSummary(10, 8, (119, 121, 118, 122, 120, 121, 121, 119, 116, 120), 600),
    "cifar10": DatasetSummary(10, 32, (5000,) * 10, 10_000),
    "cifar100": DatasetSummary(100, 32, (500,) * 100, 10_000),
    "fashion-mnist": DatasetSummary(10, 28, (6000,) * 10, 10_000),
}


def summarise(config: DataConfig) -> DatasetSummary:
    """Count classes and images (before the validation split); decode nothing.

    Raise FileNotFoundError or ValueError for a folder that cannot be used, or if there are too few images for
    the splits.
    """
    found = _known(config) if config.name in KNOWN else _folder(config)
    validation = sum(held_out(count, config.validation_fraction) for count in found.class_images)
    fraction, left = config.validation_fraction, found.train_images - validation
    if fraction and not validation:
        images = found.train_images
        raise ValueError(f"validation_fraction {fraction}: too small for {images} images; 0 for none")
    if config.train_images is not None and config.train_images > left:
        images = config.train_images
        raise ValueError(f"train_images {images}: at most {left} are left after the validation split")
    return found


def held_out(count: int, fraction: float) -> int:
    """Return how many of a class's images are for validation."""
    return math.floor(fraction * count + 0.5)


def _known(config: DataConfig) -> DatasetSummary:
    if config.data_image_size:
        raise ValueError(f"data_image_size {config.data_image_size}: only for a folder or imagenet")
    return KNOWN[config.name]


def _folder(config: DataConfig) -> DatasetSummary:
    from .folders import list_folder  # which loads Pillow

    folder = list_folder(config)
    counts = Counter(folder.train.labels)
    images = tuple(counts[label] for label in range(len(folder.classes)))
    return DatasetSummary(len(folder.classes), folder.image_size, images, len(folder.test.paths))
