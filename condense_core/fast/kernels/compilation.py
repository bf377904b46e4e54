"""How kernels are compiled: on their first call, once for a machine and for the code that they are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import config

HERE = Path(__file__).parent


def _folder() -> Path:
    """Where what was compiled of this code is kept.

    numba looks at the file of a kernel alone, and would go on with what it once compiled from others.
    """
    code = b"".join(path.read_bytes() for path in sorted(HERE.glob("*.py")))
    base = Path(config.CACHE_DIR or HERE / "__pycache__")
    return base / f"kernels-{hashlib.sha256(code).hexdigest()[:12]}"


FOLDER = _folder()


# NaN and infinity keep their meaning, so that a network that diverges is seen to
_OPTIONS: Any = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz", "arcp"}}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call; where its folder cannot be written, numba finds another."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(FOLDER)
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    finally:
        config.CACHE_DIR = before


def inlined(function: Callable[..., Any]) -> Any:
    """A part of kernels, compiled into each that calls it, and never alone.

    Otherwise every kernel brings a copy, rounded as it was optimised there, and the first that is loaded serves
    all: a process that compiled them would compute other numbers than one that read them.
    """
    return numba.njit(forceinline=True, **_OPTIONS)(function)
