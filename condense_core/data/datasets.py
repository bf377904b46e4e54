"""Load data sets, and split them for training, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from condense_core.config import DataConfig
from condense_core.randomness import derived_seed, generator
from condense_core.tables import DATASETS, implementation

from .decoding import Progress
from .images import Batch, Images
from .shard import ALONE, Shard
from .summary import held_out, summarise

SPLIT_SEED = 0  # for validation splits and subsets: the same for all seeds of a study


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test images of a data set.

    Without a validation split (fraction 0, as in the paper) curves are on the test images (`curves_on`).
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    validation: Images | None
    test: Images

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return self.train.image_size

    @property
    def curves_on(self) -> str:
        """The split that curves and choices use: 'validation' or 'test'."""
        return "test" if self.validation is None else "validation"

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that a run sees of this data set."""
        splits = (self.train, self.validation, self.test)
        text = "\n".join([*self.classes, *(split.fingerprint() if split else "" for split in splits)])
        return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).hexdigest()

    def to(self, device: str) -> Dataset:
        """Move the images to `device`."""
        validation = self.validation.to(device) if self.validation else None
        return replace(self, train=self.train.to(device), validation=validation, test=self.test.to(device))

    def steps_per_epoch(self, batch_size: int) -> int:
        """Count the batches of an epoch; a last one of a single image, without batch statistics, is dropped."""
        whole, rest = divmod(len(self.train), batch_size)
        return whole + (rest > 1)

    def training_batches(
        self, seed: int, epoch: int, batch_size: int, first: int = 0, shard: Shard = ALONE
    ) -> Iterator[Batch]:
        """Yield the shard's part of an epoch's batches from the `first` on: a function of seed and epoch."""
        order = torch.randperm(len(self.train), generator=generator(seed, "order", epoch))
        order = order.to(self.train.labels.device)  # at once: a copy in every step would wait for the device
        steps = self.steps_per_epoch(batch_size)
        batches = order.split(batch_size)[first:steps]
        seeds = [derived_seed(seed, "augmentation", epoch * steps + step) for step in range(first, steps)]
        return self.train.training_batches(batches, seeds, shard)

    @property
    def curve_images(self) -> Images:
        """The images that curves are measured on."""
        return self.validation or self.test

    def curve_batches(self) -> Iterator[Batch]:
        """Yield `curve_images` in batches."""
        return self.curve_images.evaluation_batches()


def load(config: DataConfig, data_dir: Path = Path("data"), progress: Progress | None = None) -> Dataset:
    """Load and split a data set, and take a subset if configured; keep downloads and caches in `data_dir`.

    Raise FileNotFoundError or ValueError, naming the file or the setting, before anything is trained.
    """
    summarise(config)
    classes, train, test = implementation(DATASETS[config.kind].load)(config, data_dir, progress)
    rest, validation = _cut_validation(train, config.validation_fraction)
    if config.train_images is not None:
        rest = rest.subset(balanced_subset(rest.labels.cpu(), config.train_images))
    if len(rest) < 2:
        raise ValueError(f"data {config.name!r}: needs at least 2 training images, has {len(rest)}")
    return Dataset(config.name, classes, rest, validation, test)


def balanced_subset(labels: Tensor, count: int) -> Tensor:
    """Choose `count` images, equally many of every class if possible; return their indices, int64 (count,)."""
    order = torch.randperm(len(labels), generator=generator(SPLIT_SEED, "subset"))
    rank = torch.empty_like(order)  # of an image among those of its class
    for label in labels.unique():
        members = order[labels[order] == label]
        rank[members] = torch.arange(len(members))
    return order[rank[order].argsort(stable=True)[:count]].sort().values


def _cut_validation(train: Images, fraction: float) -> tuple[Images, Images | None]:
    """Split off the same share of every class of the training images, using a fixed seed."""
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
