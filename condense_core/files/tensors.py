"""Write safetensors files atomically; read them within limits, checked against a checksum."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic import write_atomically
from .parsing import open_without_waiting
from .paths import check_inside

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER = 8 << 20  # bytes: some 50,000 tensors
MAX_FILE = 2 << 30  # bytes; a file is read into memory whole


def tensor_bytes(tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> tuple[bytes, str]:
    """Return the content of a safetensors file with these tensors and notes, and its SHA-256."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(plain, dict(notes) if notes else None)
    return content, hashlib.sha256(content).hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> str:
    """Write a safetensors file atomically and return its SHA-256."""
    content, sha256 = tensor_bytes(tensors, notes)
    write_atomically(path, lambda file: file.write(content))
    return sha256


def read_tensors(path: Path, at_most: int = MAX_FILE) -> bytes:
    """Return the content of a safetensors file. Raise ValueError, naming the file, or OSError.

    The length that the header gives its tensors is compared with the file's before these are read.
    """
    with open(path, "rb", opener=open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: is not a plain file")
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(MAX_HEADER, status.st_size - 8):
            raise ValueError(f"{path}: is not a safetensors file (its header would have {size:,} bytes)")
        declared, found = _declared_length(file.read(size), path), status.st_size - 8 - size
        if declared != found:
            raise ValueError(f"{path}: its tensors should have {declared:,} bytes, but there are {found:,}")
        if status.st_size > at_most:
            raise ValueError(f"{path}: has {status.st_size:,} bytes, more than {at_most:,}")
        file.seek(0)
        return file.read(status.st_size)


def read_checked(path: Path, root: Path, checksum: str, digits: int = 64) -> bytes:
    """Read a safetensors file below `root`. Raise ValueError if it does not match its checksum.

    The checksum is the first `digits` of its SHA-256.
    """
    content = read_tensors(check_inside(path, root))
    if hashlib.sha256(content).hexdigest()[:digits] != checksum:
        raise ValueError(f"{path}: does not match its checksum")
    return content


def _declared_length(header: bytes, path: Path) -> int:
    """The bytes of all tensors by a header; safetensors checks that they follow one another."""
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        return int(max((entry["data_offsets"][1] for entry in entries.values()), default=0))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path}: is not a safetensors file (it has no valid header)") from error


def notes_of(content: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file that was read and loaded: texts by name."""
    size = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + size]).get("__metadata__") or {})


def load_arrays(content: bytes, path: Path, framework: str = "torch") -> dict[str, Any]:
    """Return the tensors (`framework` 'torch') or arrays ('numpy') of a safetensors file that was read.

    Raises ValueError, naming the file, if it is not one.
    """
    from importlib import import_module

    from safetensors import SafetensorError

    try:
        found: Mapping[str, Any] = import_module(f"safetensors.{framework}").load(content)
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{path}: is not a safetensors file ({_one_line(error)})") from error
    return dict(found)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
