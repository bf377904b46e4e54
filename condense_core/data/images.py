"""Labelled images that give normalised, augmented batches: the protocol, and images decoded in memory.

Small images are held decoded in one uint8 tensor on the training device and augmented there in whole batches;
large ones stream from their files (`streaming`). The batch of a step depends only on the seed and the step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from .augmentation import Augmentation, Normalisation, augment, measure_normalisation
from .shard import ALONE, Shard

Batch = tuple[Tensor, Tensor]  # images float (N, 3, H, W), labels int64 (N,)

EVALUATION_BATCH = 250


class Images(Protocol):
    """Labelled images that are read in batches."""

    @property
    def labels(self) -> Tensor:
        """Class of every image: int64 (N,)."""

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""

    def __len__(self) -> int: ...

    def subset(self, index: Tensor) -> Images:
        """Select some of the images."""

    def to(self, device: str) -> Images:
        """Move the images to another device."""

    def normalised_on(self, index: Tensor) -> Images:
        """Measure the normalisation on some of the images, if it is measured at all."""

    def fingerprint(self) -> str:
        """Hash everything that a run sees of the images."""

    def training_batches(
        self, batches: Sequence[Tensor], seeds: Sequence[int], shard: Shard = ALONE
    ) -> Iterator[Batch]:
        """Yield augmented batches, each given by its indices and a seed; of each the part of `shard`."""

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield all images in order, without augmentation."""


def spread(images: Images, count: int) -> Images:
    """Select up to `count` images, spread evenly: a folder lists them class by class."""
    count = min(count, len(images))
    return images.subset(torch.arange(count) * len(images) // max(count, 1))


@dataclass(frozen=True)
class DecodedImages:
    """Small images, decoded: uint8 (N, 3, H, W) and their labels int64 (N,)."""

    images: Tensor
    labels: Tensor
    normalise: Normalisation
    augmentation: Augmentation

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""
        return self.images.shape[2]

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> DecodedImages:
        """Select some of the images."""
        return replace(self, images=self.images[index], labels=self.labels[index])

    def to(self, device: str) -> DecodedImages:
        """Move the images to another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def normalised_on(self, index: Tensor) -> DecodedImages:
        """Measure the normalisation on some of the images."""
        return replace(self, normalise=measure_normalisation(self.images[index]))

    def fingerprint(self) -> str:
        """Hash all pixels and labels."""
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (self.images, self.labels):
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def training_batches(
        self, batches: Sequence[Tensor], seeds: Sequence[int], shard: Shard = ALONE
    ) -> Iterator[Batch]:
        """Yield augmented batches, each given by its indices, with shifts and flips given by its seed.

        These are drawn for the whole batch, so that they do not depend on the number of ranks.
        """
        draws = torch.Generator(self.labels.device)
        for batch, seed in zip(batches, seeds, strict=True):
            images, part = self.images[batch], shard.batch_slice(len(batch))
            images = augment(images, self.augmentation, draws.manual_seed(seed))[part]
            yield self.normalise(images), self.labels[batch[part]]

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield all images in order, without augmentation."""
        for first in range(0, len(self), EVALUATION_BATCH):
            part = slice(first, first + EVALUATION_BATCH)
            yield self.normalise(self.images[part]), self.labels[part]
