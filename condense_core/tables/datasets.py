"""Data sets: how many classes and images each has, and the function that loads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .table import Table

LOADERS = "condense_core.data.loaders"


@dataclass(frozen=True)
class DataSource:
    """A data set: `load(config, data_dir, progress)` returns classes, training images and test images.

    The test images may be None: then a part of the others is drawn for the test, by the run's seed.
    `summary` says without loading them: the number of classes, height and width in pixels, training images of
    each class, test images. If that depends on the configuration, it is a function of it that returns a
    `DatasetSummary`. A data set `at_path` is named with its path, as in folder:PATH.
    """

    help: str
    load: str | Callable[..., Any]
    summary: tuple[int, int, tuple[int, ...], int] | str | Callable[..., Any]
    at_path: bool = False


_SUMMARY = "condense_core.data.summary"
_DIGITS = (f"{LOADERS}:load_digits", f"{_SUMMARY}:summarise_digits")
_FOLDER = (f"{LOADERS}:load_folder", f"{_SUMMARY}:summarise_folder")
_TORCHVISION = f"{LOADERS}:load_torchvision"

DATASETS: Table[DataSource] = Table(
    "data",
    {
        "digits": DataSource("scikit-learn's 8×8 digits", *_DIGITS),
        "cifar10": DataSource("CIFAR-10", _TORCHVISION, (10, 32, (5000,) * 10, 10_000)),
        "cifar100": DataSource("CIFAR-100", _TORCHVISION, (100, 32, (500,) * 100, 10_000)),
        "fashion-mnist": DataSource("Fashion-MNIST", _TORCHVISION, (10, 28, (6000,) * 10, 10_000)),
        "folder": DataSource("your images, in class folders", *_FOLDER, at_path=True),
        "imagenet": DataSource("ImageNet, in class folders", *_FOLDER, at_path=True),
    },
)
