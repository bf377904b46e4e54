"""Entries that systems and programs leave in folders, and the warning that something was left out."""

from __future__ import annotations

STRAY_NAMES = frozenset(
    {"__macosx", "__pycache__", "@eadir", "@__thumb", "#recycle", "#snapshot", "$recycle.bin", "lost+found"}
    | {"system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
)
STRAY_PREFIXES = (".", "~$")  # hidden; of Office files that are open


class LeftOut(UserWarning):
    """Something was left out: a file that is damaged, or none of those that are read."""


def is_stray(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or left by a system or a program."""
    return name.startswith(STRAY_PREFIXES) or name.lower() in STRAY_NAMES
