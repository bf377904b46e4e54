"""List image folders (class folders, also in `train/`, `test/` or `val/`); check what can be seen unopened.

`decoding` reads the images; this file only lists them, and reads parts of some to tell data sets apart.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from condense_core.config import DataConfig
from condense_core.files import is_stray
from condense_core.machine import read_ahead

from .image_file import naming_image
from .image_size import DEFAULT_IMAGE_SIZE, ChosenSize, choose_size, evenly_spaced
from .listing import Omissions, class_folders, images_below, one_form

MAX_READ = 4096  # files, evenly spaced, and of each the first and the last bytes
EDGE_BYTES = 32 << 10
TESTS = ("test", "val")  # folders of test images, the first one that is there


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
    """A listed data set: its classes, its files, and the size that its images are cropped to.

    `test` is None if the test images are drawn from `train`. `note` says so, what was left out, and which
    images do not fit; it may be empty.
    """

    root: Path
    classes: tuple[str, ...]
    train: ImageFiles
    test: ImageFiles | None
    image_size: int
    note: str = ""

    @property
    def splits(self) -> tuple[ImageFiles, ...]:
        """Training files, and test files if there are any."""
        return (self.train,) if self.test is None else (self.train, self.test)

    def content(self) -> str:
        """Hash the images of all splits, so that a copy of the folder is known as the same data set."""
        every = "/".join(split.content() for split in self.splits)
        return hashlib.blake2b(every.encode(), digest_size=10).hexdigest()

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
    places, omissions = _places(root, config), Omissions()
    folders = [class_folders(place, omissions) for place in places]
    _check_classes(data, root, places, folders)
    classes = tuple(folders[0])
    splits = [
        _list_split(place, [found[name] for name in classes], omissions)
        for place, found in zip(places, folders, strict=True)
    ]
    chosen = _size(config, splits[0])
    left_out = " and ".join(filter(None, [str(omissions), *_unused(root, places)]))
    drawn = "" if splits[1:] else "has no test/ or val/, so a third of each class is drawn for the test"
    note = "; ".join(filter(None, [left_out and f"left out {left_out}", drawn, chosen.note]))
    test = splits[1] if splits[1:] else None
    return Folder(root, classes, splits[0], test, chosen.pixels, f"{data}: {note}" if note else "")


def _places(root: Path, config: DataConfig) -> list[Path]:
    """Find the folder of the training images, and that of the test images if they have one."""
    train, tests = root / "train", [root / name for name in TESTS if (root / name).is_dir()]
    if train.is_dir() and (tests or config.kind == "folder"):
        return [train, *tests[:1]]
    if tests or train.is_dir() or config.kind == "imagenet":
        raise FileNotFoundError(f"data {config.name!r}: {root} must hold train/ and test/ (or val/)")
    return [root]


def _unused(root: Path, places: list[Path]) -> Iterator[str]:
    """Say which folders beside `train/` are not read: perhaps a name was misspelled."""
    if places != [root]:
        for other in sorted(set(root.iterdir()).difference(places)):
            if other.is_dir() and not is_stray(other.name):
                yield f"{other} ({places[1]} is used)" if other.name in TESTS else str(other)


def _check_classes(data: str, root: Path, places: list[Path], folders: list[dict[str, str]]) -> None:
    """Raise ValueError unless there are at least two classes, the same ones in all places."""
    if len(folders[0]) < 2:
        other = "train/ and test/ (or val/), or " if places == [root] else ""
        raise ValueError(
            f"{data}: {places[0]} must hold {other}at least 2 class folders, has {len(folders[0])}"
        )
    for here, split, there in zip(folders, places, reversed(places), strict=True):
        if missing := set().union(*folders) - here.keys():
            raise ValueError(f"{data}: class {min(missing)!r} of {there} has no folder in {split}")


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
