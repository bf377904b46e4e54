"""Labelled images that give normalised, augmented batches, decoded in memory or streamed from their files.

Small images live decoded in one uint8 tensor on the training device and are augmented there in whole
batches; large ones stream from their files. What a step sees depends on the seed and the step alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from .augmentation import Augmentation, Normalisation, augment
from .shard import ALONE, Shard

Batch = tuple[Tensor, Tensor]  # images float (N, 3, H, W), labels int64 (N,)

EVALUATION_BATCH = 250


class Images(Protocol):
    """Labelled images that can be read in batches."""

    @property
    def labels(self) -> Tensor:
        """Class of every image: int64 (N,)."""

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""

    def __len__(self) -> int: ...

    def subset(self, index: Tensor) -> Images:
        """Some of the images."""

    def to(self, device: str) -> Images:
        """The images on another device."""

    def fingerprint(self) -> str:
        """Hash of everything that a run sees of them."""

    def training_batches(
        self, batches: Sequence[Tensor], seeds: Sequence[int], shard: Shard = ALONE
    ) -> Iterator[Batch]:
        """Augmented batches, each given by its indices and its seed; of each the part of `shard`."""

    def evaluation_batches(self) -> Iterator[Batch]:
        """All images in order, as they are."""


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
        """Some of the images."""
        return replace(self, images=self.images[index], labels=self.labels[index])

    def to(self, device: str) -> DecodedImages:
        """The images on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def fingerprint(self) -> str:
        """Hash of all pixels and labels."""
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (self.images, self.labels):
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def training_batches(
        self, batches: Sequence[Tensor], seeds: Sequence[int], shard: Shard = ALONE
    ) -> Iterator[Batch]:
        """Augmented batches; each is given by its indices, and its shifts and flips by its seed.

        They are drawn for the whole batch, so that an image gets the same ones however many ranks there are.
        """
        draws = torch.Generator(self.labels.device)
        for batch, seed in zip(batches, seeds, strict=True):
            images, part = self.images[batch], shard.batch_slice(len(batch))
            images = augment(images, self.augmentation, draws.manual_seed(seed))[part]
            yield self.normalise(images), self.labels[batch[part]]

    def evaluation_batches(self) -> Iterator[Batch]:
        """All images in order, as they are."""
        for first in range(0, len(self), EVALUATION_BATCH):
            part = slice(first, first + EVALUATION_BATCH)
            yield self.normalise(self.images[part]), self.labels[part]
