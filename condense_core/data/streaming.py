"""Large images, read from their files in every epoch by worker processes that leave signals to the trainer."""

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
from .image_file import load_crops
from .images import EVALUATION_BATCH, Batch
from .shard import ALONE, Shard

STREAM_WORKERS = 2


@dataclass(frozen=True)
class StreamedImages:
    """Large images, read from their files when they are needed."""

    files: ImageFiles
    image_size: int
    device: str = "cpu"

    @cached_property
    def labels(self) -> Tensor:
        """Class of every image: int64 (N,)."""
        return torch.tensor(self.files.labels)

    def __len__(self) -> int:
        return len(self.files.paths)

    def subset(self, index: Tensor) -> StreamedImages:
        """Select some of the images."""
        return replace(self, files=self.files.subset(index.tolist()))

    def to(self, device: str) -> StreamedImages:
        """Deliver the images to another device."""
        return replace(self, device=device)

    def fingerprint(self) -> str:
        """Hash names, sizes and labels of the files."""
        return self.files.fingerprint()

    def training_batches(
        self, batches: Sequence[Tensor], seeds: Sequence[int], shard: Shard = ALONE
    ) -> Iterator[Batch]:
        """Yield random resized crops, flipped half the time, given by the batch's seed and the place in it."""
        tasks = [_tasks(index.tolist(), seed, shard) for index, seed in zip(batches, seeds, strict=True)]
        return self._stream(tasks)

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield all images in order, resized and cropped in the centre."""
        tasks: list[Task] = [(image, None) for image in range(len(self))]
        return self._stream([tasks[i : i + EVALUATION_BATCH] for i in range(0, len(tasks), EVALUATION_BATCH)])

    def _stream(self, tasks: list[list[Task]]) -> Iterator[Batch]:
        load_crops()
        loader: DataLoader[Any] = DataLoader(
            FileReader(self.files, self.image_size),
            batch_sampler=tasks,
            collate_fn=partial(_collate, self.image_size),
            num_workers=STREAM_WORKERS,
            worker_init_fn=_leave_stopping_to_the_trainer,
            # spawned processes spawn by default, and every worker would import torch again
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
            raise error.with_traceback(None) from None  # its frames would keep idle workers alive


def _tasks(index: list[int], seed: int, shard: Shard) -> list[Task]:
    """Return the shard's images of a batch, each with a seed of its own."""
    part = shard.batch_slice(len(index))
    return [(image, derived_seed(seed, "image", place)) for place, image in list(enumerate(index))[part]]


def _collate(size: int, images: list[tuple[np.ndarray, int]]) -> Batch:
    """Stack images: uint8 (N, 3, size, size), int64 (N,). A rank with no part of the last batch has N = 0."""
    pixels = np.stack([pixels for pixels, _ in images]) if images else np.empty((0, 3, size, size), np.uint8)
    return torch.from_numpy(pixels), torch.tensor([label for _, label in images], dtype=torch.int64)


STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def _stops_held() -> Iterator[None]:
    """Hold signals back while workers are forked: one to the trainer's process group would end them too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_stopping_to_the_trainer(worker: int) -> None:
    """Leave the trainer's process group, so that a stop ends the step in progress before it ends workers."""
    os.setpgrp()
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)  # drops signals that came meanwhile
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
