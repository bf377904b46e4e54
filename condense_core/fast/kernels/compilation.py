"""How kernels are compiled: on their first call, once per machine and version of the code in this folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import config

HERE = Path(__file__).parent


def fingerprint(folder: Path) -> str:
    """Return a hash of all Python files in a folder and below, of their names and their code.

    numba compares only the file of a kernel: it would reuse a kernel after a file that it is made of changed.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("[!.]*.py")):
        code = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(code)}\n".encode() + code)
    return digest.hexdigest()[:12]


KERNELS = fingerprint(HERE)
"""The version of the kernels."""

CACHE = Path(config.CACHE_DIR or HERE / "__pycache__") / f"kernels-{KERNELS}"

# NaN and infinity keep their meaning, so that a network that diverges is noticed.
_OPTIONS: Any = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz", "arcp"}}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call; if its folder cannot be written, numba finds another.

    Raises ImportError if there is no folder to write: whoever asks for kernels expects one kind of error.
    """
    before, config.CACHE_DIR = config.CACHE_DIR, str(CACHE)
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError as error:
        raise ImportError(f"no folder for compiled kernels: {error}") from error
    finally:
        config.CACHE_DIR = before


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function into each kernel that calls it, and never alone.

    Otherwise every kernel brings a copy, rounded as it was optimised there, and the first copy loaded serves
    all: a process that compiled the kernels would compute other numbers than one that read them from the cache.
    """
    return numba.njit(forceinline=True, **_OPTIONS)(function)
