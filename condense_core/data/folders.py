"""List image folders (class folders below `train/` and `test/` or `val/`) and check what can be seen unopened.

`decoding` reads the images; this file only lists them, opening one to learn the size.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from condense_core.config import DataConfig

from .image_file import open_image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
DEFAULT_IMAGE_SIZE = 224


@dataclass(frozen=True)
class ImageFiles:
    """The files of one split, below `root`, and the class of each."""

    root: Path
    paths: tuple[str, ...]
    labels: tuple[int, ...]

    def subset(self, index: list[int]) -> ImageFiles:
        """Select some of the files."""
        return ImageFiles(self.root, tuple(self.paths[i] for i in index), tuple(self.labels[i] for i in index))

    def fingerprint(self, with_times: bool = False) -> str:
        """Hash names, labels and sizes; for the key of a cache also the times of the last changes."""
        digest = hashlib.blake2b(digest_size=16)
        for path, label in zip(self.paths, self.labels, strict=True):
            status = (self.root / path).stat()
            changed = status.st_mtime_ns if with_times else 0
            digest.update(f"{path}\0{label}\0{status.st_size}\0{changed}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


@dataclass(frozen=True)
class Folder:
    """A listed data set: its classes, the files of both splits, and the size that its images are cropped to."""

    root: Path
    classes: tuple[str, ...]
    train: ImageFiles
    test: ImageFiles
    image_size: int

    @property
    def splits(self) -> tuple[ImageFiles, ImageFiles]:
        """Training and test files."""
        return self.train, self.test

    def cache_file(self, data_dir: Path, suffix: str) -> Path:
        """Return the path of a cache for this folder; its name changes when a file does."""
        files = (split.fingerprint(with_times=True) for split in self.splits)
        key = "/".join([str(self.root.resolve()), str(self.image_size), *files])
        return data_dir / "cache" / (hashlib.blake2b(key.encode(), digest_size=10).hexdigest() + suffix)


def list_folder(config: DataConfig) -> Folder:
    """List a folder of images; raise FileNotFoundError or ValueError, naming what is missing or wrong."""
    data, root = f"data {config.name!r}", Path(os.path.expanduser(config.name.partition(":")[2]))
    if not root.is_dir():
        raise FileNotFoundError(f"{data}: there is no folder {root}")
    train = root / "train"
    test = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if not train.is_dir() or test is None:
        raise FileNotFoundError(f"{data}: {root} must hold train/ and test/ (or val/)")
    classes = tuple(_class_names(train))
    if len(classes) < 2:
        raise ValueError(f"{data}: {train} must hold at least 2 class folders, has {len(classes)}")
    unknown = [name for name in _class_names(test) if name not in classes]
    if unknown:
        raise ValueError(f"{data}: class {unknown[0]!r} of {test} has no folder in {train}")
    splits = [_list_split(part, classes) for part in (train, test)]
    size = config.data_image_size or _image_size(splits[0], config.kind)
    return Folder(root, classes, splits[0], splits[1], size)


def _class_names(folder: Path) -> list[str]:
    """List the class folders, which may be links; raise ValueError for a broken link."""
    for entry in os.scandir(folder):
        if entry.is_symlink() and not Path(entry.path).exists():
            raise ValueError(f"data: {entry.path}: is a link that leads nowhere or to itself")
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


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
    """Find all images below a class folder; raise ValueError for links to folders and for special files.

    Images behind such a link would be missed, or a loop of links followed for ever; a pipe never ends.
    """
    for path, folders, names in os.walk(folder, onerror=_raise):
        for name in folders:
            if Path(path, name).is_symlink():
                raise ValueError(f"data: {Path(path, name)}: is a link to a folder, which is not followed")
        for name in names:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                if not (image := Path(path, name)).is_file():
                    raise ValueError(f"data: cannot read the image {image} ({_why_not_a_file(image)})")
                yield image


def _raise(error: OSError) -> NoReturn:
    raise error


def _why_not_a_file(path: Path) -> str:
    return "broken link" if path.is_symlink() and not path.exists() else "not a plain file"


def _image_size(files: ImageFiles, kind: str) -> int:
    """Return the size of square images, at most 224; ImageNet's are always cropped to 224."""
    if kind == "imagenet":
        return DEFAULT_IMAGE_SIZE
    path = files.root / files.paths[0]
    width, height = open_image(path, DEFAULT_IMAGE_SIZE).size
    if width != height and min(width, height) < DEFAULT_IMAGE_SIZE:
        raise ValueError(f"data: {path} is {width}×{height}, not square; give data_image_size")
    return min(width, height, DEFAULT_IMAGE_SIZE)
