"""Image folders: class folders under `train/` and `test/` or `val/`, listed, checked, decoded and cached."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from condense_core.config import DataConfig
from condense_core.files.atomic import write_atomically

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 89_478_485  # of an image, as decoded or resized: Pillow's own limit
DEFAULT_IMAGE_SIZE = 224
EVALUATION_RESIZE = 256 / 224  # the shorter side, before the centre crop of 224 (paper Sec. 4.2)
LARGE_IMAGE_PIXELS = 64  # above that many pixels a side images stream from their files

Progress = Callable[[int, int], None]  # images decoded, of how many
Task = tuple[int, int | None]  # index of an image, and the seed of its augmentation


@dataclass(frozen=True)
class ImageFiles:
    """The files of one split, below `root`, and the class of each."""

    root: Path
    paths: tuple[str, ...]
    labels: tuple[int, ...]

    def subset(self, index: list[int]) -> ImageFiles:
        """Some of the files."""
        return ImageFiles(self.root, tuple(self.paths[i] for i in index), tuple(self.labels[i] for i in index))

    def fingerprint(self, with_times: bool = False) -> str:
        """Hash of names, labels and sizes, and of the times of change where a cache depends on them."""
        digest = hashlib.blake2b(digest_size=16)
        for path, label in zip(self.paths, self.labels, strict=True):
            status = (self.root / path).stat()
            changed = status.st_mtime_ns if with_times else 0
            digest.update(f"{path}\0{label}\0{status.st_size}\0{changed}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


@dataclass(frozen=True)
class Folder:
    """A listed data set: its classes, the files of both splits, and the size that its images get."""

    root: Path
    classes: tuple[str, ...]
    train: ImageFiles
    test: ImageFiles
    image_size: int

    def cache_file(self, data_dir: Path, suffix: str) -> Path:
        """Where what was read of this folder is kept; the name changes when a file does."""
        key = "/".join(
            [
                str(self.root.resolve()),
                str(self.image_size),
                *(files.fingerprint(with_times=True) for files in (self.train, self.test)),
            ]
        )
        return data_dir / "cache" / (hashlib.blake2b(key.encode(), digest_size=10).hexdigest() + suffix)


def list_folder(config: DataConfig) -> Folder:
    """List a folder of images. Raises FileNotFoundError or ValueError, naming what is missing or wrong."""
    root = Path(config.name.partition(":")[2]).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"data {config.name!r}: there is no folder {root}")
    train = root / "train"
    test = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if not train.is_dir() or test is None:
        raise FileNotFoundError(f"data {config.name!r}: {root} must hold train/ and test/ (or val/)")
    classes = tuple(_class_names(train))
    if len(classes) < 2:
        raise ValueError(
            f"data {config.name!r}: {train} must hold at least 2 class folders, has {len(classes)}"
        )
    unknown = [name for name in _class_names(test) if name not in classes]
    if unknown:
        raise ValueError(f"data {config.name!r}: class {unknown[0]!r} of {test} has no folder in {train}")
    splits = [_list_split(part, classes) for part in (train, test)]
    size = config.data_image_size or _image_size(splits[0], config.kind)
    return Folder(root, classes, splits[0], splits[1], size)


def _list_split(root: Path, classes: tuple[str, ...]) -> ImageFiles:
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(_image_paths(root / name)) if (root / name).is_dir() else []
        if not found:
            raise ValueError(f"data: {root / name} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
        paths += (str(path.relative_to(root)) for path in found)
        labels += [label] * len(found)
    return ImageFiles(root, tuple(paths), tuple(labels))


def _image_paths(folder: Path) -> Iterator[Path]:
    """Every image below a class folder. Raises ValueError for what could be missed or never end."""
    for path, folders, names in os.walk(folder, onerror=_raise):
        for name in folders:
            if Path(path, name).is_symlink():
                raise ValueError(f"data: {Path(path, name)}: is a link to a folder, which is not followed")
        for name in names:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                if not (image := Path(path, name)).is_file():
                    raise ValueError(f"data: cannot read the image {image} ({_no_file(image)})")
                yield image


def _raise(error: OSError) -> None:
    raise error


def _no_file(path: Path) -> str:
    return "its link leads nowhere" if path.is_symlink() and not path.exists() else "it is no plain file"


def _class_names(folder: Path) -> list[str]:
    """The class folders, which may be links. Raises ValueError for a link that leads nowhere."""
    for entry in os.scandir(folder):
        if entry.is_symlink() and not Path(entry.path).exists():
            raise ValueError(f"data: {entry.path}: is a link that leads nowhere or to itself")
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _image_size(files: ImageFiles, kind: str) -> int:
    """Square images keep their size up to 224 pixels; ImageNet's are cropped to 224."""
    if kind == "imagenet":
        return DEFAULT_IMAGE_SIZE
    width, height = _open(files.root / files.paths[0], DEFAULT_IMAGE_SIZE).size
    if width != height and min(width, height) < DEFAULT_IMAGE_SIZE:
        raise ValueError(
            f"data: {files.root / files.paths[0]} is {width}×{height}, not square; give data_image_size"
        )
    return min(width, height, DEFAULT_IMAGE_SIZE)


def _open(path: Path, size: int) -> Image.Image:
    """An image in RGB. Raises ValueError, naming the file, where it is none or would be too large at `size`."""
    try:
        image = Image.open(path, formats=FORMATS)  # of more formats some start other programs
        _check_size(*image.size, size)
        return image.convert("RGB")
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"data: cannot read the image {path} ({reason})") from error


def _check_size(width: int, height: int, size: int) -> None:
    """Raise ValueError for what is huge, or would be once its shorter side is resized to `size`."""
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width}×{height} are more than {MOST_PIXELS:,} pixels")
    side = size * EVALUATION_RESIZE
    if side * side * max(width, height) > MOST_PIXELS * min(width, height):
        raise ValueError(f"{width}×{height} pixels are too long a strip for {size}×{size}")


@lru_cache
def _crop(size: int, augmented: bool) -> Callable[[Image.Image], Image.Image]:
    """The paper's crops for ImageNet; small images are only resized."""
    from torchvision.transforms import v2  # takes a second, and most data sets need none of it

    if augmented:
        return v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])
    side = size if size <= LARGE_IMAGE_PIXELS else round(size * EVALUATION_RESIZE)
    return v2.Compose([v2.Resize(side, antialias=True), v2.CenterCrop(size)])


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side and crop the centre; an image of the size itself stays as it is."""
    return image if image.size == (size, size) else _crop(size, False)(image)


def random_resized_crop(image: Image.Image, size: int, seed: int) -> Image.Image:
    """A random crop, resized and flipped half the time (Szegedy et al. 2015): a function of the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _crop(size, True)(image)


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
