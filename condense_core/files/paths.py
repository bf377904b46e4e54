"""Names and links that must stay inside a folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from .schema import _short

PLAIN_NAME = re.compile(r"[^./\\\0][^/\\\0]*")


def plain_name(name: Any, what: str) -> str:
    """`name` where it can only mean a file or a folder in the one that it stands for. Raises ValueError."""
    if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name) or not name.isprintable():
        raise ValueError(f"{what} {_short(name)}: must be a plain file name")
    return name


def check_inside(path: Path, root: Path) -> Path:
    """`path`, which is below `root`. Raises ValueError where a symbolic link leads it elsewhere."""
    part, top = os.fspath(path), os.fspath(root)  # as text: a report asks this of every file of its runs
    while len(part) > len(top):
        if os.path.islink(part) and not _leads_below(path, root):
            raise ValueError(f"{path}: a symbolic link leads out of {root}")
        part = os.path.dirname(part)
    return path


def check_links(root: Path) -> None:
    """Raise ValueError where a link below `root` leads out of it: what is written there would be outside."""
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            check_inside(Path(folder, name), root)


def _leads_below(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a loop
        return False
