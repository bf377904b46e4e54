"""Labelled images that give normalised, augmented batches, decoded in memory or streamed from their files.

Small images live decoded in one uint8 tensor on the training device and are augmented there in whole
batches; large ones stream from their files. What a step sees depends on the seed and the step alone.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from multiprocessing import get_all_start_methods
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from condense_core.distributed.ranks import ALONE, Shard
from condense_core.randomness import derived_seed

from .folders import FileReader, ImageFiles, Task

Batch = tuple[Tensor, Tensor]  # images float (N, 3, H, W), labels int64 (N,)

EVALUATION_BATCH = 250
STREAM_WORKERS = 2


@dataclass(frozen=True)
class Augmentation:
    """What training images go through: a shift by up to `padding` pixels and, where it may, a flip."""

    padding: int
    flip: bool


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, for pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) → normalised float, channels last."""
        scale, shift = _scale_and_shift(self, images.device)
        pixels = images.to(torch.float32, memory_format=torch.channels_last)
        return pixels.mul_(scale[:, None, None]).add_(shift[:, None, None])


@lru_cache(maxsize=64)
def _scale_and_shift(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Kept on the device: a copy in every step would wait for it."""
    mean, std = (torch.tensor(values, device=device) for values in (normalisation.mean, normalisation.std))
    return 1 / (255 * std), -mean / std


def measure_normalisation(images: Tensor) -> Normalisation:
    """Mean and standard deviation of each channel of uint8 images (N, 3, H, W)."""
    histogram = torch.stack([images[:, channel].flatten().bincount(minlength=256) for channel in range(3)])
    levels, share = torch.arange(256) / 255, histogram / histogram.sum(1, keepdim=True)
    mean = share @ levels
    variance = share @ levels**2 - mean**2
    return Normalisation(tuple(mean.tolist()), tuple(variance.clamp(min=1e-6).sqrt().tolist()))


IMAGENET_NORMALISATION = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


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
            images, part = self.images[batch], shard.of(len(batch))
            images = augment(images, self.augmentation, draws.manual_seed(seed))[part]
            yield self.normalise(images), self.labels[batch[part]]

    def evaluation_batches(self) -> Iterator[Batch]:
        """All images in order, as they are."""
        for first in range(0, len(self), EVALUATION_BATCH):
            part = slice(first, first + EVALUATION_BATCH)
            yield self.normalise(self.images[part]), self.labels[part]


def augment(images: Tensor, augmentation: Augmentation, draws: torch.Generator) -> Tensor:
    """Pad with black, crop at a random place, flip half of them: (N, C, H, W) → (N, C, H, W)."""
    count, channels, height, width = images.shape
    pad, device = augmentation.padding, images.device
    if pad:
        padded = F.pad(images, (pad,) * 4)
        shift = torch.randint(2 * pad + 1, (2, count), generator=draws, device=device)
        rows = shift[0][:, None, None, None] + torch.arange(height, device=device)[:, None]
        columns = shift[1][:, None, None, None] + torch.arange(width, device=device)
        image, channel = torch.arange(count, device=device), torch.arange(channels, device=device)
        images = padded[image[:, None, None, None], channel[:, None, None], rows, columns]
    if augmentation.flip:
        flipped = torch.rand(count, generator=draws, device=device) < 0.5
        images = torch.where(flipped[:, None, None, None], images.flip(3), images)
    return images


@dataclass(frozen=True)
class StreamedImages:
    """Large images, read from their files when they are needed: labels int64 (N,)."""

    files: ImageFiles
    image_size: int
    device: str = "cpu"

    @cached_property
    def labels(self) -> Tensor:
        """Class of every image."""
        return torch.tensor(self.files.labels)

    def __len__(self) -> int:
        return len(self.files.paths)

    def subset(self, index: Tensor) -> StreamedImages:
        """Some of the images."""
        return replace(self, files=self.files.subset(index.tolist()))

    def to(self, device: str) -> StreamedImages:
        """The same files, delivered to another device."""
        return replace(self, device=device)

    def fingerprint(self) -> str:
        """Hash of names, sizes and labels of the files."""
        return self.files.fingerprint()

    def training_batches(
        self, batches: Sequence[Tensor], seeds: Sequence[int], shard: Shard = ALONE
    ) -> Iterator[Batch]:
        """Random resized crops, flipped half the time; each image's are given by its batch's seed and place."""
        tasks: list[list[Task]] = [
            [
                (image, derived_seed(seed, "image", place))
                for place, image in list(enumerate(index.tolist()))[shard.of(len(index))]
            ]
            for index, seed in zip(batches, seeds, strict=True)
        ]
        return self._stream(tasks)

    def evaluation_batches(self) -> Iterator[Batch]:
        """All images in order, resized and cropped in the centre."""
        images = range(len(self))
        firsts = range(0, len(self), EVALUATION_BATCH)
        return self._stream(
            [[(image, None) for image in images[first : first + EVALUATION_BATCH]] for first in firsts]
        )

    def _stream(self, tasks: list[list[Task]]) -> Iterator[Batch]:
        reader = FileReader(self.files, self.image_size)
        reader.load_crops()
        loader: DataLoader[Any] = DataLoader(
            reader,
            batch_sampler=tasks,
            collate_fn=partial(_collate, self.image_size),
            num_workers=STREAM_WORKERS,
            worker_init_fn=_leave_stopping_to_the_trainer,
            # in a spawned process the default is to spawn, and every worker would import torch again
            multiprocessing_context="fork" if "fork" in get_all_start_methods() else None,
            pin_memory=self.device != "cpu",
        )
        with _stops_held():
            batches = iter(loader)
        try:
            for pixels, labels in batches:
                images = pixels.to(self.device, non_blocking=True)
                yield IMAGENET_NORMALISATION(images), labels.to(self.device, non_blocking=True)
        except Exception as error:
            del batches
            raise error.with_traceback(None) from None  # whose frames would keep idle workers alive


def _collate(size: int, images: list[tuple[np.ndarray, int]]) -> Batch:
    """uint8 (N, 3, size, size) and int64 (N,), N = 0 too: a rank may have no part of the last batch."""
    pixels = np.stack([pixels for pixels, _ in images]) if images else np.empty((0, 3, size, size), np.uint8)
    return torch.from_numpy(pixels), torch.tensor([label for _, label in images], dtype=torch.int64)


STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def _stops_held() -> Iterator[None]:
    """While workers are forked: until they have left the trainer's group, no signal to it may end them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_stopping_to_the_trainer(worker: int) -> None:
    os.setpgrp()
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)  # drops what came meanwhile
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
