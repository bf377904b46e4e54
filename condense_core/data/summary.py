"""What can be said of a data set without decoding it, nor loading torch for those that are known."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from condense_core.config import DataConfig


@dataclass(frozen=True)
class DatasetSummary:
    """What can be said of a data set without decoding it."""

    num_classes: int
    image_size: int
    class_images: tuple[int, ...]  # for training and validation, of every class
    test_images: int

    @property
    def train_images(self) -> int:
        """Images for training and validation."""
        return sum(self.class_images)


DIGITS = (119, 121, 118, 122, 120, 121, 121, 119, 116, 120)


def held_out(count: int, fraction: float) -> int:
    """How many of a class's images are for validation."""
    return math.floor(fraction * count + 0.5)


def summarise(config: DataConfig) -> DatasetSummary:
    """Classes, image size and numbers of images (before the validation split); decodes nothing.

    Raises FileNotFoundError or ValueError for a folder that cannot be used, and for splits that it does not
    give.
    """
    found = _summarise(config)
    validation = sum(held_out(count, config.validation_fraction) for count in found.class_images)
    if config.validation_fraction and not validation:
        raise ValueError(
            f"validation_fraction {config.validation_fraction}: too small for {found.train_images} images; "
            "0 for none"
        )
    left = found.train_images - validation
    if config.train_images is not None and config.train_images > left:
        raise ValueError(
            f"train_images {config.train_images}: at most {left} are left after the validation split"
        )
    return found


def _summarise(config: DataConfig) -> DatasetSummary:
    known = {
        "digits": DatasetSummary(10, 8, DIGITS, 600),
        "cifar10": DatasetSummary(10, 32, (5000,) * 10, 10_000),
        "cifar100": DatasetSummary(100, 32, (500,) * 100, 10_000),
        "fashion-mnist": DatasetSummary(10, 28, (6000,) * 10, 10_000),
    }
    if config.name in known:
        if config.data_image_size:
            raise ValueError(f"data_image_size {config.data_image_size}: only for a folder or imagenet")
        return known[config.name]
    from .folders import list_folder

    folder = list_folder(config)
    counts = Counter(folder.train.labels)
    images = tuple(counts[label] for label in range(len(folder.classes)))
    return DatasetSummary(len(folder.classes), folder.image_size, images, len(folder.test.paths))
