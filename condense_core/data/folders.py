"""List image folders (class folders below `train/` and `test/` or `val/`) and check what can be seen unopened.

`decoding` reads the images; this file only lists them, and reads parts of some to tell data sets apart.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from condense_core.config import DataConfig
from condense_core.machine import read_ahead

from .image_file import naming_image
from .image_size import DEFAULT_IMAGE_SIZE, ChosenSize, choose_size, evenly_spaced
from .listing import Omissions, class_folders, images_below, one_form

MAX_READ = 4096  # files, evenly spaced, and of each the first and the last bytes
EDGE_BYTES = 32 << 10


@dataclass(frozen=True)
class ImageFiles:
    """The files of one split, below `root`: their sizes in bytes, and the class of each."""

    root: Path
    paths: tuple[str, ...]
    labels: tuple[int, ...]
    sizes: tuple[int, ...]

    def subset(self, index: list[int]) -> ImageFiles:
        """Select some of the files."""
        columns = (self.paths, self.labels, self.sizes)
        paths, labels, sizes = (tuple(column[i] for i in index) for column in columns)
        return ImageFiles(self.root, paths, labels, sizes)  # type: ignore[arg-type]

    def fingerprint(self, with_times: bool = False) -> str:
        """Hash names, labels and sizes; for the key of a cache also the times of the last changes."""
        digest = hashlib.blake2b(digest_size=16)
        for path, label, size in zip(self.paths, self.labels, self.sizes, strict=True):
            changed = (self.root / path).stat().st_mtime_ns if with_times else 0
            digest.update(f"{one_form(path)}\0{label}\0{size}\0{changed}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def content(self) -> str:
        """Hash names, labels, sizes, and the first and last bytes of up to 4,096 files: wherever they lie."""
        digest = hashlib.blake2b(self.fingerprint().encode(), digest_size=16)
        taken = [self.root / self.paths[place] for place in evenly_spaced(len(self.paths), MAX_READ)]
        for edges in read_ahead(_edges, taken, MAX_READ):
            digest.update(edges)
        return digest.hexdigest()


@dataclass(frozen=True)
class Folder:
    """A listed data set: its classes, the files of both splits, and the size that its images are cropped to.

    `note` says what was left out and which images do not fit; it may be empty.
    """

    root: Path
    classes: tuple[str, ...]
    train: ImageFiles
    test: ImageFiles
    image_size: int
    note: str = ""

    @property
    def splits(self) -> tuple[ImageFiles, ImageFiles]:
        """Training and test files."""
        return self.train, self.test

    def content(self) -> str:
        """Hash the images of both splits, so that a copy of the folder is known as the same data set."""
        both = "/".join(split.content() for split in self.splits)
        return hashlib.blake2b(both.encode(), digest_size=10).hexdigest()

    def cache_file(self, data_dir: Path, suffix: str) -> Path:
        """Return the path of a cache for this folder; its name changes when a file does."""
        files = (split.fingerprint(with_times=True) for split in self.splits)
        key = "/".join([str(self.root.resolve()), str(self.image_size), *files])
        return data_dir / "cache" / (hashlib.blake2b(key.encode(), digest_size=10).hexdigest() + suffix)


def _edges(path: Path) -> bytes:
    with naming_image(path), path.open("rb") as file:
        first = file.read(EDGE_BYTES)
        file.seek(max(len(first), path.stat().st_size - EDGE_BYTES))
        return first + file.read(EDGE_BYTES)


def list_folder(config: DataConfig) -> Folder:
    """List a folder of images; raise FileNotFoundError or ValueError, naming what is missing or wrong."""
    data, root = f"data {config.name!r}", Path(os.path.expanduser(config.name.partition(":")[2]))
    if not root.is_dir():
        raise FileNotFoundError(f"{data}: there is no folder {root}")
    train = root / "train"
    tests = [root / name for name in ("test", "val") if (root / name).is_dir()]
    if not train.is_dir() or not tests:
        raise FileNotFoundError(f"{data}: {root} must hold train/ and test/ (or val/)")
    omissions = Omissions()
    train_folders, test_folders = (class_folders(split, omissions) for split in (train, tests[0]))
    classes = tuple(train_folders)
    if len(classes) < 2:
        raise ValueError(f"{data}: {train} must hold at least 2 class folders, has {len(classes)}")
    for here, split, there in ((train_folders, train, tests[0]), (test_folders, tests[0], train)):
        if missing := (train_folders | test_folders).keys() - here.keys():
            raise ValueError(f"{data}: class {min(missing)!r} of {there} has no folder in {split}")
    splits = [
        _list_split(train, train_folders.values(), omissions),
        _list_split(tests[0], [test_folders[name] for name in classes], omissions),
    ]
    chosen = _size(config, splits[0])
    left_out = [
        text for text in (str(omissions), *(f"{other} ({tests[0]} is used)" for other in tests[1:])) if text
    ]
    notes = [f"left out {' and '.join(left_out)}"] if left_out else []
    note = "; ".join([*notes, *filter(None, [chosen.note])])
    return Folder(root, classes, splits[0], splits[1], chosen.pixels, f"{data}: {note}" if note else "")


def _list_split(root: Path, folders: Iterable[str], omissions: Omissions) -> ImageFiles:
    """List the images of the classes in these folders, in this order."""
    found = [
        (label, *image) for label, name in enumerate(folders) for image in images_below(root, name, omissions)
    ]
    labels, paths, sizes = zip(*found, strict=True)
    return ImageFiles(root, paths, labels, sizes)


def _size(config: DataConfig, files: ImageFiles) -> ChosenSize:
    """Return the size that is asked for, or that of the images; ImageNet's are always cropped to 224."""
    if config.data_image_size:
        return ChosenSize(config.data_image_size)
    if config.kind == "imagenet":
        return ChosenSize(DEFAULT_IMAGE_SIZE)
    return choose_size([files.root / path for path in files.paths])
