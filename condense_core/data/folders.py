"""Image folders: class folders under `train/` and `test/` or `val/`, listed, checked, decoded and cached."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from condense_core.config import DataConfig

from .image_file import _open

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
DEFAULT_IMAGE_SIZE = 224


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
