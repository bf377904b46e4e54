"""Images that are read from their files in every epoch."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from multiprocessing import get_all_start_methods
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from condense_core.randomness import derived_seed

from .augmentation import IMAGENET_NORMALISATION
from .decoding import FileReader, Task
from .folders import ImageFiles
from .images import EVALUATION_BATCH, Batch
from .shard import ALONE, Shard

STREAM_WORKERS = 2


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
                for place, image in list(enumerate(index.tolist()))[shard.batch_slice(len(index))]
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
