"""A data set that is split: its training, validation and test images, and the batches of an epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from condense_core.config import ModelConfig
from condense_core.randomness import derived_seed, generator

from .images import Batch, Images
from .shard import ALONE, Shard


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
    places: Mapping[str, Tensor] = field(default_factory=dict)  # in the whole data, of 'validation' and 'test'
    whole: str | None = None  # fingerprint of the whole data, if it is split by seed

    def places_of(self, split: str, count: int) -> Tensor:
        """Return the place of each image of 'validation' or 'test' in the whole data: int64 (count,)."""
        return self.places.get(split, torch.arange(count))

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
        """Hash of everything that a run sees, or of the whole data if it is split by seed."""
        splits = (self.train, self.validation, self.test)
        parts = (split.fingerprint() if split else "" for split in splits)
        return self.whole or hash_of(self.classes, parts)

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


def hash_of(classes: tuple[str, ...], parts: Iterable[str]) -> str:
    """Hash the names of classes and the hashes of their images."""
    text = "\n".join([*classes, *parts])
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).hexdigest()


def check_data(model: ModelConfig, dataset: Dataset) -> None:
    """Raise ValueError if a data set does not fit a network."""
    if len(dataset.classes) > model.num_classes:
        raise ValueError(f"num_classes {model.num_classes}: the data has {len(dataset.classes)} classes")
    if dataset.image_size != model.image_size:
        raise ValueError(f"image_size {model.image_size}: the data's images have {dataset.image_size} pixels")
