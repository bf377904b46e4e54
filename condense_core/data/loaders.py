"""Load data sets: scikit-learn's digits, torchvision's data sets and image folders.

A new kind is a function like these and an entry in `condense_core.tables.DATASETS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condense_core.config import DataConfig
from condense_core.files import LeftOut
from condense_core.tables import DATASETS, implementation

from .augmentation import (
    CIFAR10_NORMALISATION,
    CIFAR100_NORMALISATION,
    Augmentation,
    Normalisation,
    measure_normalisation,
)
from .datasets import Dataset
from .decoding import Progress, check_readable, decode_folder
from .folders import list_folder
from .image_file import LARGE_IMAGE_PIXELS
from .images import DecodedImages, Images
from .splits import Source, split
from .streaming import StreamedImages
from .summary import summarise

Loaded = tuple[tuple[str, ...], Images, Images | None]  # classes, training images, test images of its own


def load(
    config: DataConfig, data_dir: Path = Path("data"), progress: Progress | None = None, seed: int = 0
) -> Dataset:
    """Load a data set as a run with this seed sees it; keep downloads and caches in `data_dir`.

    Raise FileNotFoundError or ValueError, naming the file or the setting, before anything is trained.
    """
    return split(read(config, data_dir, progress), config, seed)


def read(config: DataConfig, data_dir: Path = Path("data"), progress: Progress | None = None) -> Source:
    """Load all images of a data set. Raises what `load` does, and warns of files that are left out."""
    if note := summarise(config).note:
        warnings.warn(note, LeftOut, stacklevel=3)
    return Source(config.name, *implementation(DATASETS[config.kind].load)(config, data_dir, progress))


DIGITS = tuple("0123456789")


def load_digits(config: DataConfig, data_dir: Path, progress: Progress | None) -> Loaded:
    """Load scikit-learn's 1,797 handwritten digits, 8×8; a flipped digit would be another one, or none.

    They are in `digits.npz`, because importing scikit-learn would take each process a second, with a stratified
    split. It is not an official one: by seed, all images may be test images.
    """
    with np.load(Path(__file__).with_name("digits.npz")) as file:
        levels, labels, in_test = (file[name] for name in ("levels", "labels", "test"))
    images = _three_channels(np.round(levels * (255 / 16)).astype(np.uint8))
    labels, normalise = torch.from_numpy(labels).long(), measure_normalisation(images[~in_test])
    if config.split == "seed":
        return DIGITS, DecodedImages(images, labels, normalise, Augmentation(1, flip=False)), None
    train, test = (
        DecodedImages(images[part], labels[part], normalise, Augmentation(1, flip=False))
        for part in (~in_test, in_test)
    )
    return DIGITS, train, test


def load_torchvision(config: DataConfig, data_dir: Path, progress: Progress | None) -> Loaded:
    """Load a data set of torchvision; download it to `data_dir` first if needed."""
    from torchvision import datasets

    kinds: dict[str, tuple[type, Normalisation | None]] = {
        "cifar10": (datasets.CIFAR10, CIFAR10_NORMALISATION),
        "cifar100": (datasets.CIFAR100, CIFAR100_NORMALISATION),
        "fashion-mnist": (datasets.FashionMNIST, None),
    }
    kind, normalise = kinds[config.kind]
    try:
        splits = [kind(str(data_dir), train=part, download=True) for part in (True, False)]
    except (OSError, RuntimeError) as error:
        reason = f"cannot be downloaded to {data_dir} ({error})"
        raise FileNotFoundError(f"data {config.kind!r}: {reason}") from error
    pixels = [_three_channels(np.asarray(split.data)) for split in splits]
    normalise = normalise or measure_normalisation(pixels[0])
    train, test = (
        DecodedImages(images, torch.as_tensor(split.targets).long(), normalise, Augmentation(4, flip=True))
        for images, split in zip(pixels, splits, strict=True)
    )
    return tuple(splits[0].classes), train, test


def load_folder(config: DataConfig, data_dir: Path, progress: Progress | None) -> Loaded:
    """Load a folder of images: small ones decoded, large ones as files to stream."""
    folder = list_folder(config)
    if folder.image_size > LARGE_IMAGE_PIXELS:
        if config.kind == "folder":  # checking ImageNet takes an hour: its bad files are reported when met
            check_readable(folder, data_dir, progress)
        streamed = [StreamedImages(files, folder.image_size) for files in folder.splits]
        return folder.classes, *_train_and_test(streamed)
    pixels = [torch.from_numpy(split) for split in decode_folder(folder, data_dir, progress)]
    normalise = measure_normalisation(pixels[0])
    decoded = [
        DecodedImages(images, torch.tensor(files.labels), normalise, Augmentation(4, flip=True))
        for images, files in zip(pixels, folder.splits, strict=True)
    ]
    return folder.classes, *_train_and_test(decoded)


def _train_and_test(splits: Sequence[Images]) -> tuple[Images, Images | None]:
    return splits[0], splits[1] if splits[1:] else None


def _three_channels(pixels: np.ndarray) -> Tensor:
    """Convert uint8 (N, H, W) or (N, H, W, 3) to (N, 3, H, W)."""
    if pixels.ndim == 3:
        return torch.from_numpy(pixels)[:, None].repeat(1, 3, 1, 1)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
