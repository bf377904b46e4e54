"""Write files so that a crash, a full disk or a power cut leaves the old one or the new one, never a part."""

from __future__ import annotations

import errno
import json
import os
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

UNFINISHED = ".*.tmp"  # temporary files of a process that was killed while it wrote
CANNOT_FLUSH = (
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EBADF,
    errno.EPERM,
    errno.ENOTTY,
)


class Unflushed(UserWarning):
    """A file system cannot flush to its disk: what was written last may be lost in a power cut."""


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Let `write` fill a temporary file in the same folder, flush it to the disk and rename it to `path`."""
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.tmp")
    with naming(path):
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                _flush(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as strict JSON, atomically. Raise ValueError for NaN and infinity."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def append_row(path: Path, row: Any) -> None:
    """Add a line of strict JSON after the last whole one; `flush` makes it survive a power cut."""
    line = json.dumps(row, allow_nan=False) + "\n"
    with naming(path), path.open("ab+") as file:
        _drop_torn_line(file)
        file.write(line.encode())


def _drop_torn_line(file: IO[bytes]) -> None:
    end = file.seek(0, os.SEEK_END)
    if not end:
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)


def flush(path: Path) -> None:
    """Flush a file and its name to the disk, so that appended lines survive a power cut."""
    with naming(path), path.open("rb") as file:
        _flush(file.fileno())
    _flush_folder(path.parent)


def _flush(descriptor: int) -> None:
    """Flush an open file or folder to the disk. Warn once if its file system cannot; raise other OSErrors."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_FLUSH:
            raise
        _warn_unflushed(error.strerror)


@lru_cache
def _warn_unflushed(reason: str) -> None:
    """Warn, once for every reason: all files of a store are on the same disk."""
    text = f"the file system cannot flush to its disk ({reason}): the last changes may be lost in a power cut"
    warnings.warn(text, Unflushed, stacklevel=4)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, so that they survive a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    with naming(path):
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            _flush_folder(folder.parent)


def move(path: Path, target: Path) -> None:
    """Rename a file or a folder, so that its new name survives a power cut."""
    path.rename(target)
    _flush_folder(target.parent)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError as error:  # a folder in which one may only write, or a system that opens none
        _warn_unflushed(error.strerror)
        return
    try:
        _flush(descriptor)  # the names in it
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in errors of the system that do not, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
