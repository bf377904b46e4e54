"""Large images, read from their files in every epoch by threads, ahead of the training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice

import numpy as np
import torch
from torch import Tensor

from condense_core.machine import read_ahead, usable_cores
from condense_core.randomness import derived_seed

from .augmentation import IMAGENET_NORMALISATION
from .decoding import FileReader, Task
from .folders import ImageFiles
from .image_file import load_crops
from .images import EVALUATION_BATCH, Batch
from .shard import ALONE, Shard

BATCHES_AHEAD = 2  # that are read while one trains
MAX_READERS = 4  # threads; beside a run others may train


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

    def normalised_on(self, index: Tensor) -> StreamedImages:
        """Return these images: their normalisation is ImageNet's."""
        return self

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

    def _stream(self, batches: list[list[Task]]) -> Iterator[Batch]:
        load_crops()
        reader = FileReader(self.files, self.image_size)
        readers, ahead = min(usable_cores(), MAX_READERS), BATCHES_AHEAD * max(map(len, batches), default=0)
        images = read_ahead(reader.__getitem__, chain.from_iterable(batches), ahead + 1, readers)
        with closing(images):
            for tasks in batches:
                pixels, labels = _collate(self.image_size, list(islice(images, len(tasks))))
                if self.device != "cpu":
                    pixels, labels = pixels.pin_memory(), labels.pin_memory()
                on_device = pixels.to(self.device, non_blocking=True)
                yield IMAGENET_NORMALISATION(on_device), labels.to(self.device, non_blocking=True)


def _tasks(index: list[int], seed: int, shard: Shard) -> list[Task]:
    """Return the shard's images of a batch, each with a seed of its own."""
    part = shard.batch_slice(len(index))
    return [(image, derived_seed(seed, "image", place)) for place, image in list(enumerate(index))[part]]


def _collate(size: int, images: list[tuple[np.ndarray, int]]) -> Batch:
    """Stack images: uint8 (N, 3, size, size), int64 (N,). A rank with no part of the last batch has N = 0."""
    pixels = np.stack([pixels for pixels, _ in images]) if images else np.empty((0, 3, size, size), np.uint8)
    return torch.from_numpy(pixels), torch.tensor([label for _, label in images], dtype=torch.int64)
