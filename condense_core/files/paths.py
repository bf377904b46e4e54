"""Names and links that must stay inside a folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from .schema import shorten

PLAIN_NAME = re.compile(r"[^./\\\0][^/\\\0]*")


def plain_name(name: Any, what: str) -> str:
    """Return `name` if it is a plain file name (no separators, no leading dot), else raise ValueError."""
    if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name) or not name.isprintable():
        raise ValueError(f"{what} {shorten(name)}: must be a plain file name")
    return name


def check_inside(path: Path, root: Path) -> Path:
    """Return `path`, which is below `root`. Raise ValueError if a symbolic link leads out of `root`."""
    part, top = os.fspath(path), os.fspath(root)  # as text: a report checks every file of its runs
    while len(part) > len(top):
        if os.path.islink(part) and not _leads_below(path, root):
            raise ValueError(f"{path}: a symbolic link leads out of {root}")
        part = os.path.dirname(part)
    return path


def check_there(path: Path) -> None:
    """Raise FileNotFoundError or IsADirectoryError, with a sentence, if there is nothing or a folder."""
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, not a file")
    if not os.path.lexists(path):
        raise FileNotFoundError(f"{path}: there is no such file")


def check_links(root: Path) -> None:
    """Raise ValueError if a link below `root` leads out of it, because writing there would follow it."""
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            check_inside(Path(folder, name), root)


def _leads_below(path: Path, root: Path) -> bool:
    try:
        target = os.path.realpath(path, strict=True)
    except FileNotFoundError:
        target = os.path.realpath(path)
    except OSError:  # a loop
        return False
    return Path(target).is_relative_to(os.path.realpath(root))
