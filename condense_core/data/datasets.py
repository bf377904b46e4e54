"""Data sets: torchvision's, scikit-learn's digits and image folders, split for training, choices and test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condense_core.config import DataConfig
from condense_core.randomness import derived_seed, generator

from .augmentation import Augmentation, Normalisation, measure_normalisation
from .decoding import Progress, check_readable, decode_folder
from .folders import list_folder
from .image_file import LARGE_IMAGE_PIXELS
from .images import Batch, DecodedImages, Images
from .shard import ALONE, Shard
from .streaming import StreamedImages
from .summary import held_out, summarise

SPLIT_SEED = 0  # of the validation split and of subsets: the same for every seed of a study


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test images of a data set.

    Without a validation split (fraction 0, as in the paper) curves are on the test images and say so.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    validation: Images | None
    test: Images
    _cache: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return self.train.image_size

    @property
    def curves_on(self) -> str:
        """The split that curves and every choice are on: 'validation' or 'test'."""
        return "test" if self.validation is None else "validation"

    @property
    def fingerprint(self) -> str:
        """Hash of everything that a run sees of this data set."""
        if "fingerprint" not in self._cache:
            splits = [
                split.fingerprint() if split else "" for split in (self.train, self.validation, self.test)
            ]
            text = "\n".join([*self.classes, *splits])
            self._cache["fingerprint"] = hashlib.blake2b(
                text.encode(errors="surrogateescape"), digest_size=16
            ).hexdigest()
        return self._cache["fingerprint"]

    def to(self, device: str) -> Dataset:
        """The data set with its images on `device`."""
        validation = self.validation.to(device) if self.validation else None
        return replace(self, train=self.train.to(device), validation=validation, test=self.test.to(device))

    def steps_per_epoch(self, batch_size: int) -> int:
        """Batches of an epoch; a last one of a single image is left out, for it has no batch statistics."""
        whole, rest = divmod(len(self.train), batch_size)
        return whole + (rest > 1)

    def training_batches(
        self, seed: int, epoch: int, batch_size: int, first: int = 0, shard: Shard = ALONE
    ) -> Iterator[Batch]:
        """The batches of an epoch from the `first` on, of each a shard's part: a function of seed and epoch."""
        order = torch.randperm(len(self.train), generator=generator(seed, "order", epoch))
        order = order.to(self.train.labels.device)  # at once: a copy in every step would wait for the device
        steps = self.steps_per_epoch(batch_size)
        batches = order.split(batch_size)[first:steps]
        seeds = [derived_seed(seed, "augmentation", epoch * steps + step) for step in range(first, steps)]
        return self.train.training_batches(batches, seeds, shard)

    @property
    def curve_images(self) -> Images:
        """The images that curves are on."""
        return self.validation or self.test

    def curve_batches(self) -> Iterator[Batch]:
        """`curve_images`, in batches."""
        return self.curve_images.evaluation_batches()


CIFAR10_NORMALISATION = Normalisation((0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616))
CIFAR100_NORMALISATION = Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


def load(config: DataConfig, data_dir: Path = Path("data"), progress: Progress | None = None) -> Dataset:
    """Load, split and, where asked for, subset a data set; downloads and caches go to `data_dir`.

    Raises FileNotFoundError or ValueError, naming the file or the setting, before anything is trained.
    """
    summarise(config)
    if config.kind == "digits":
        classes, train, test = _digits()
    elif config.kind in ("folder", "imagenet"):
        classes, train, test = _folder(config, data_dir, progress)
    else:
        classes, train, test = _torchvision(config.kind, data_dir)
    rest, validation = _cut_validation(train, config.validation_fraction)
    if config.train_images is not None:
        rest = rest.subset(balanced_subset(rest.labels.cpu(), config.train_images))
    if len(rest) < 2:
        raise ValueError(f"data {config.name!r}: needs at least 2 training images, has {len(rest)}")
    return Dataset(config.name, tuple(classes), rest, validation, test)


def balanced_subset(labels: Tensor, count: int) -> Tensor:
    """Indices of `count` images with as equal a number of every class as there is: int64 (count,)."""
    order = torch.randperm(len(labels), generator=generator(SPLIT_SEED, "subset"))
    rank = torch.empty_like(order)  # of an image among those of its class
    for label in labels.unique():
        members = order[labels[order] == label]
        rank[members] = torch.arange(len(members))
    return order[rank[order].argsort(stable=True)[:count]].sort().values


def _cut_validation(train: Images, fraction: float) -> tuple[Images, Images | None]:
    """Cut the same share of every class from the training images, by a fixed seed."""
    labels = train.labels.cpu()
    order = torch.randperm(len(labels), generator=generator(SPLIT_SEED, "validation"))
    parts = [
        members[: held_out(len(members), fraction)]
        for members in (order[labels[order] == label] for label in labels.unique())
    ]
    index = torch.cat(parts).sort().values
    if not len(index):
        return train, None
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[index] = False
    return train.subset(rest.nonzero().flatten()), train.subset(index)


Loaded = tuple[Sequence[str], Images, Images]  # classes, training images, test images


def _digits() -> Loaded:
    """scikit-learn's 1,797 handwritten digits, 8×8; a flip would make other digits of them.

    They lie beside this file, with the stratified split (`digits.npz`): importing scikit-learn for them would
    take every process a second.
    """
    with np.load(Path(__file__).with_name("digits.npz")) as file:
        levels, labels, in_test = (file[name] for name in ("levels", "labels", "test"))
    images = _three_channels(np.round(levels * (255 / 16)).astype(np.uint8))
    normalise = measure_normalisation(images[~in_test])
    splits = (
        DecodedImages(
            images[part], torch.from_numpy(labels[part]).long(), normalise, Augmentation(1, flip=False)
        )
        for part in (~in_test, in_test)
    )
    return tuple("0123456789"), *splits  # type: ignore[return-value]


def _torchvision(name: str, data_dir: Path) -> Loaded:
    from torchvision import datasets

    kinds: dict[str, tuple[Any, Normalisation | None]] = {
        "cifar10": (datasets.CIFAR10, CIFAR10_NORMALISATION),
        "cifar100": (datasets.CIFAR100, CIFAR100_NORMALISATION),
        "fashion-mnist": (datasets.FashionMNIST, None),
    }
    kind, normalise = kinds[name]
    try:
        train, test = (kind(str(data_dir), train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(f"data {name!r}: cannot be downloaded to {data_dir} ({error})") from error
    pixels = [_three_channels(np.asarray(part.data)) for part in (train, test)]
    normalise = normalise or measure_normalisation(pixels[0])
    splits = (
        DecodedImages(images, torch.as_tensor(part.targets).long(), normalise, Augmentation(4, flip=True))
        for images, part in zip(pixels, (train, test), strict=True)
    )
    return train.classes, *splits


def _folder(config: DataConfig, data_dir: Path, progress: Progress | None) -> Loaded:
    folder = list_folder(config)
    if folder.image_size > LARGE_IMAGE_PIXELS:
        if config.kind == "folder":  # ImageNet takes an hour to decode: a bad file is named when it is met
            check_readable(folder, data_dir, progress)
        streams = (StreamedImages(files, folder.image_size) for files in (folder.train, folder.test))
        return folder.classes, *streams  # type: ignore[return-value]
    pixels = [torch.from_numpy(part) for part in decode_folder(folder, data_dir, progress)]
    normalise = measure_normalisation(pixels[0])
    splits = (
        DecodedImages(images, torch.tensor(files.labels), normalise, Augmentation(4, flip=True))
        for images, files in zip(pixels, (folder.train, folder.test), strict=True)
    )
    return folder.classes, *splits  # type: ignore[return-value]


def _three_channels(pixels: np.ndarray) -> Tensor:
    """uint8 (N, H, W) or (N, H, W, 3) → (N, 3, H, W)."""
    if pixels.ndim == 3:
        return torch.from_numpy(pixels)[:, None].repeat(1, 3, 1, 1)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
