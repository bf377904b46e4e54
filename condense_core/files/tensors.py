"""Read safetensors files within limits, checked against a checksum."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .parsing import _open_without_waiting
from .paths import check_inside

LARGEST_HEADER = 8 << 20  # of a safetensors file: some 50,000 tensors


LARGEST_TENSORS = 2 << 30  # of a safetensors file; it is read into memory whole


def read_tensors(path: Path, at_most: int = LARGEST_TENSORS) -> bytes:
    """The content of a safetensors file. Raises ValueError, naming the file, and OSError.

    How long its tensors are by its header is compared with the file before they are read.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: is no plain file")
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(LARGEST_HEADER, status.st_size - 8):
            raise ValueError(f"{path}: is not a safetensors file (its header would have {size:,} bytes)")
        said, there = _length_of_tensors(file.read(size), path), status.st_size - 8 - size
        if said != there:
            raise ValueError(f"{path}: its tensors should have {said:,} bytes, but there are {there:,}")
        if status.st_size > at_most:
            raise ValueError(f"{path}: has {status.st_size:,} bytes, more than {at_most:,}")
        file.seek(0)
        return file.read(status.st_size)


def read_checked(path: Path, root: Path, checksum: str, digits: int = 64) -> bytes:
    """A safetensors file below `root`, as `read_tensors`, with the first `digits` of its SHA-256."""
    content = read_tensors(check_inside(path, root))
    if hashlib.sha256(content).hexdigest()[:digits] != checksum:
        raise ValueError(f"{path}: does not match its checksum")
    return content


def _length_of_tensors(header: bytes, path: Path) -> int:
    """Bytes of all tensors by a header; whether they follow one another is for safetensors to say."""
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        return int(max((entry["data_offsets"][1] for entry in entries.values()), default=0))
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise ValueError(f"{path}: is not a safetensors file (its header is none)") from error


def notes_of(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file that was read and loaded: texts by name."""
    size = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + size]).get("__metadata__") or {})


def load_arrays(content: bytes, path: Path, framework: str = "torch") -> dict[str, Any]:
    """The tensors (`framework` 'torch') or arrays ('numpy') of a safetensors file that was read.

    Raises ValueError, naming the file.
    """
    from importlib import import_module

    from safetensors import SafetensorError

    try:
        found: Mapping[str, Any] = import_module(f"safetensors.{framework}").load(content)
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{path}: is not a safetensors file of ours ({_one_line(error)})") from error
    return dict(found)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
