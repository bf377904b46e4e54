"""Find the images of a split: class folders, the image files below each, and what is left out.

Nothing is opened here. What a system or a program left (`is_stray`) is no class and no image.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from condense_core.files import is_stray

from .image_file import image_suffixes

MAX_NAMED = 4  # kinds of files that were left out

Found = tuple[str, int]  # path below the split, and size in bytes


@dataclass
class Omissions:
    """What a listing leaves out: entries of systems and programs, and files that are not images of a class."""

    strays: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Say how many, and of which kinds; empty if nothing was left out."""
        kinds = {"hidden or system entr": (self.strays, "y", "ies"), "other file": (self.others, "", "s")}
        texts = []
        for what, (names, one, many) in kinds.items():
            if count := names.total():
                texts.append(f"{count} {what}{one if count == 1 else many} ({_counted(names)})")
        return " and ".join(texts)


def _counted(names: Counter[str]) -> str:
    most = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    more = f", {len(most) - MAX_NAMED} more kinds" if len(most) > MAX_NAMED else ""
    return ", ".join(f"{name}: {count}" for name, count in most[:MAX_NAMED]) + more


def class_folders(split: Path, omissions: Omissions) -> dict[str, str]:
    """List the classes, sorted, and the folder of each, which may be a link; files beside them are left out.

    Raise ValueError for a broken link, for a class with two folders, and if no image has a class.
    """
    folders: dict[str, str] = {}
    images = 0
    for entry in os.scandir(split):
        if is_stray(entry.name):
            omissions.strays[entry.name] += 1
        elif entry.is_symlink() and not Path(entry.path).exists():
            raise ValueError(f"data: {entry.path}: is a link that leads nowhere or to itself")
        elif entry.is_dir():
            if (other := folders.setdefault(one_form(entry.name), entry.name)) != entry.name:
                raise ValueError(f"data: {split} has the folders {other!a} and {entry.name!a} of one class")
        else:
            images += is_image(entry.name)
            omissions.others[f"{split.name}/*{Path(entry.name).suffix.lower()}"] += 1
    if images and not folders:
        raise ValueError(
            f"data: {split} holds {images} images and no class folders; "
            f"move each image into a folder with the name of its class, as in {split.name}/cat/1.jpg"
        )
    return dict(sorted(folders.items()))


def one_form(name: str) -> str:
    """Return a name in one of the forms that Unicode has for it: Macs write é as e with an accent."""
    return unicodedata.normalize("NFC", name)


def is_image(name: str) -> bool:
    """Return whether a file is an image by its suffix."""
    return os.path.splitext(name)[1].lower() in image_suffixes()


def images_below(split: Path, name: str, omissions: Omissions) -> list[Found]:
    """List path and size of all images of a class folder, sorted. Raise ValueError if there are none."""
    found = sorted(
        _images(split / name, omissions), key=lambda item: [one_form(part) for part in item[0].parts]
    )
    if not found:
        raise ValueError(f"data: {split / name} holds no image ({', '.join(sorted(image_suffixes()))})")
    return [(str(path.relative_to(split)), size) for path, size in found]


def _images(folder: Path, omissions: Omissions) -> Iterator[tuple[Path, int]]:
    """Find all images below a class folder; raise ValueError for links to folders and for special files.

    Images behind such a link would be missed, or a loop of links followed for ever; a pipe never ends.
    """
    for path, folders, names in os.walk(folder, onerror=_raise):
        omissions.strays.update(name for name in (*folders, *names) if is_stray(name))
        folders[:] = [name for name in folders if not is_stray(name)]
        for name in folders:
            if Path(path, name).is_symlink():
                raise ValueError(f"data: {Path(path, name)}: is a link to a folder, which is not followed")
        for name in names:
            if is_stray(name):
                continue
            if is_image(name):
                yield Path(path, name), _size(Path(path, name))
            else:
                omissions.others[os.path.splitext(name)[1].lower() or "no suffix"] += 1


def _raise(error: OSError) -> NoReturn:
    raise error


def _size(path: Path) -> int:
    """Return the bytes of a plain file; raise ValueError for anything else."""
    try:
        status = path.stat()
    except (OSError, RuntimeError) as error:
        reason = "broken link" if path.is_symlink() else str(error)
        raise ValueError(f"data: cannot read the image {path} ({reason})") from error
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"data: cannot read the image {path} (not a plain file)")
    return status.st_size
