"""Decode folders of image files, once, into a cache."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from condense_core.files import write_atomically

from .folders import Folder, ImageFiles
from .image_file import _crop, _open, centre_crop, random_resized_crop

Progress = Callable[[int, int], None]  # images decoded, of how many


Task = tuple[int, int | None]  # index of an image, and the seed of its augmentation


@dataclass(frozen=True)
class FileReader(Dataset[tuple[np.ndarray, int]]):
    """Reads one image of a split: (index, seed) → uint8 (3, size, size) and its label; no seed: centre crop."""

    files: ImageFiles
    size: int

    def __getitem__(self, task: Task) -> tuple[np.ndarray, int]:
        index, seed = task
        image = _open(self.files.root / self.files.paths[index], self.size)
        image = centre_crop(image, self.size) if seed is None else random_resized_crop(image, self.size, seed)
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)), self.files.labels[index]

    def load_crops(self) -> None:
        """Load what crops need: processes that are forked afterwards need not load it, each for itself."""
        _crop(self.size, True)

    def centre(self, index: int) -> np.ndarray:
        """The centre crop of an image."""
        return self[index, None][0]

    def check(self, index: int) -> None:
        """Raise ValueError where an image cannot be read."""
        _open(self.files.root / self.files.paths[index], self.size)


def decode_folder(folder: Folder, data_dir: Path, progress: Progress | None = None) -> list[np.ndarray]:
    """All images of both splits as uint8 (N, 3, size, size): decoded once, then read from a cache."""
    cache = folder.cache_file(data_dir, ".npz")
    if cache.is_file():
        with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # damaged: decoded anew
            return _read_cache(cache, folder)
    pixels = list(_decode(folder, progress))
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(cache, lambda file: np.savez(file, train=pixels[0], test=pixels[1]))
    return pixels


def _read_cache(cache: Path, folder: Folder) -> list[np.ndarray]:
    """The pixels of both splits. Raises where a file is none of this folder."""
    pixels = []
    with zipfile.ZipFile(cache) as archive:
        for name, files in (("train", folder.train), ("test", folder.test)):
            shape = (len(files.paths), 3, folder.image_size, folder.image_size)
            with archive.open(f"{name}.npy") as file:
                np.lib.format.read_magic(file)
                found, fortran, kind = np.lib.format.read_array_header_1_0(file)
                if (found, fortran, kind) != (shape, False, np.uint8):
                    raise ValueError(f"{cache}: {name} has shape {found}, not {shape}")
            with archive.open(f"{name}.npy") as file:
                pixels.append(np.lib.format.read_array(file, allow_pickle=False))
    return pixels


def _decode(folder: Folder, progress: Progress | None) -> Iterator[np.ndarray]:
    done, total = 0, len(folder.train.paths) + len(folder.test.paths)
    for files in (folder.train, folder.test):
        pixels = np.empty((len(files.paths), 3, folder.image_size, folder.image_size), np.uint8)
        read = FileReader(files, folder.image_size).centre
        for index, image in enumerate(_of_all(files, read)):
            pixels[index] = image
            done += 1
            if progress:
                progress(done, total)
        yield pixels


def check_readable(folder: Folder, data_dir: Path, progress: Progress | None = None) -> None:
    """Decode every image once, so that a bad one is named before training; remembered until a file changes."""
    mark = folder.cache_file(data_dir, ".readable")
    if mark.is_file():
        return
    done, total = 0, len(folder.train.paths) + len(folder.test.paths)
    for files in (folder.train, folder.test):
        for _ in _of_all(files, FileReader(files, folder.image_size).check):
            done += 1
            if progress:
                progress(done, total)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _of_all(files: ImageFiles, read: Callable[[int], Any]) -> Iterator[Any]:
    """What `read` makes of every image of a split in order, by as many threads as there are cores."""
    with ThreadPoolExecutor() as threads:
        for first in range(0, len(files.paths), 1024):
            yield from threads.map(read, range(first, min(first + 1024, len(files.paths))))
