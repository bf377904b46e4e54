"""What can be said of a data set without decoding it, nor loading torch for those that are known."""

from __future__ import annotations

from dataclasses import dataclass

from .config import DataConfig


@dataclass(frozen=True)
class Description:
    """What can be said of a data set without decoding it."""

    num_classes: int
    image_size: int
    train_images: int
    test_images: int


def describe(config: DataConfig) -> Description:
    """Classes, image size and numbers of images (before the validation split); decodes nothing.

    Raises FileNotFoundError or ValueError for a folder that cannot be used.
    """
    known = {
        "digits": Description(10, 8, 1197, 600),
        "cifar10": Description(10, 32, 50_000, 10_000),
        "cifar100": Description(100, 32, 50_000, 10_000),
        "fashion-mnist": Description(10, 28, 60_000, 10_000),
    }
    if config.name in known:
        if config.data_image_size:
            raise ValueError(f"data_image_size {config.data_image_size}: only for a folder or imagenet")
        return known[config.name]
    from .folders import list_folder

    folder = list_folder(config)
    counts = (len(split.paths) for split in (folder.train, folder.test))
    return Description(len(folder.classes), folder.image_size, *counts)
