"""Decode the images of a folder: one by one, or all at once into a cache.

Small images are decoded once and kept in the cache (`decode_folder`); larger ones are only checked
(`check_readable`), and `streaming` reads them with a `FileReader` in every epoch.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from condense_core.files import write_atomically
from condense_core.machine import read_ahead

from .folders import Folder, ImageFiles
from .image_file import centre_crop, open_image, random_resized_crop

Progress = Callable[[int, int], None]  # images decoded so far, images in total
Task = tuple[int, int | None]  # index of an image, and the seed of its augmentation
Value = TypeVar("Value")

NAMES = "train", "test"  # of the splits in a cache; a folder without test images has the first alone
IMAGES_AHEAD = 1024  # decoded images wait in memory until they are taken


@dataclass(frozen=True)
class FileReader:
    """A reader of a split: (index, seed) → uint8 (3, size, size) and label; without a seed a centre crop."""

    files: ImageFiles
    size: int

    def __getitem__(self, task: Task) -> tuple[np.ndarray, int]:
        index, seed = task
        image = open_image(self.files.root / self.files.paths[index], self.size)
        image = centre_crop(image, self.size) if seed is None else random_resized_crop(image, self.size, seed)
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)), self.files.labels[index]

    def centre(self, index: int) -> np.ndarray:
        """Read the centre crop of an image."""
        return self[index, None][0]

    def check(self, index: int) -> None:
        """Raise ValueError if an image cannot be read."""
        open_image(self.files.root / self.files.paths[index], self.size)


def decode_folder(folder: Folder, data_dir: Path, progress: Progress | None = None) -> list[np.ndarray]:
    """Return the images of every split as uint8 (N, 3, size, size); decode them once, then use the cache."""
    cache = folder.cache_file(data_dir, ".npz")
    if cache.is_file():
        with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # damaged: decode again
            return _read_cache(cache, folder)
    pixels = _decode(folder, progress)
    cache.parent.mkdir(parents=True, exist_ok=True)
    named = dict(zip(NAMES, pixels, strict=False))
    write_atomically(cache, lambda file: np.savez(file, allow_pickle=False, **named))
    return pixels


def check_readable(folder: Folder, data_dir: Path, progress: Progress | None = None) -> None:
    """Decode every image once, so that a bad one is named before training; once more only if a file changes."""
    mark = folder.cache_file(data_dir, ".readable")
    if mark.is_file():
        return
    for _ in _read_all(folder, FileReader.check, progress):
        pass
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _read_cache(cache: Path, folder: Folder) -> list[np.ndarray]:
    """Read the pixels of every split; raise an error if the file is damaged or belongs to another folder."""
    pixels = []
    with zipfile.ZipFile(cache) as archive:
        for name, files in zip(NAMES, folder.splits, strict=False):
            shape = _shape(files, folder)
            with archive.open(f"{name}.npy") as file:
                np.lib.format.read_magic(file)
                found, fortran, kind = np.lib.format.read_array_header_1_0(file)
                if (found, fortran, kind) != (shape, False, np.uint8):  # before memory is taken for it
                    raise ValueError(f"{cache}: {name} has shape {found}, not {shape}")
            with archive.open(f"{name}.npy") as file:
                pixels.append(np.lib.format.read_array(file, allow_pickle=False))
    return pixels


def _decode(folder: Folder, progress: Progress | None) -> list[np.ndarray]:
    pixels = [np.empty(_shape(files, folder), np.uint8) for files in folder.splits]
    images = _read_all(folder, FileReader.centre, progress)
    for split in pixels:
        for index in range(len(split)):
            split[index] = next(images)
    return pixels


def _shape(files: ImageFiles, folder: Folder) -> tuple[int, ...]:
    return len(files.paths), 3, folder.image_size, folder.image_size


def _read_all(
    folder: Folder, read: Callable[[FileReader, int], Value], progress: Progress | None
) -> Iterator[Value]:
    """Yield the result of `read` for all images of every split in order, using all cores; report progress."""
    total = sum(len(files.paths) for files in folder.splits)
    readers = (FileReader(files, folder.image_size) for files in folder.splits)
    calls = (partial(read, reader, index) for reader in readers for index in range(len(reader.files.paths)))
    for done, value in enumerate(read_ahead(lambda call: call(), calls, IMAGES_AHEAD), start=1):
        if progress:
            progress(done, total)
        yield value
