"""How kernels are compiled: on their first call, once per machine and version of the code in this folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
from filelock import FileLock, Timeout
from numba.core import config
from numba.core.dispatcher import Dispatcher

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


def inlined(function: Callable[..., Any], allocates: bool = False) -> Any:
    """Compile a function into each kernel that calls it, and never alone.

    Otherwise every kernel brings a copy, rounded as it was optimised there, and the first copy loaded serves
    all: a process that compiled the kernels would compute other numbers than one that read them from the cache.
    One that allocates no arrays does not count who uses them either: that costs more than a row of pixels.
    """
    return numba.njit(forceinline=True, _nrt=allocates, **_OPTIONS)(function)


def compiled(calls: Iterable[tuple[Any, tuple[Any, ...]]]) -> Iterator[tuple[int, int]]:
    """Load or compile the kernels of calls; yield how many of all are ready whenever one was compiled here.

    Yields nothing if all are loaded, otherwise in the end that all are ready. Processes that need the same
    kernels share the work: what another one compiles is loaded when it is done.
    """
    distinct = {(call, *map(_kind, given)): given for call, given in calls if isinstance(call, Dispatcher)}
    kernels = ((call, tuple(map(numba.typeof, given))) for (call, *_), given in distinct.items())
    asked = dict.fromkeys(kernel for kernel in kernels if kernel[1] not in kernel[0].overloads)
    waiting, patient, misses = list(asked), False, 0
    while waiting:
        left = []
        for number, (function, types) in enumerate(waiting):
            if not _compile(function, types, wait=patient and number == 0):
                left.append((function, types))
            elif function.stats.cache_misses[types]:
                misses += 1
                yield len(asked) - len(waiting) - len(left) + number + 1, len(asked)
        patient, waiting = len(left) == len(waiting), left
    if misses:
        yield len(asked), len(asked)


def _kind(value: Any) -> Any:
    """Return what tells values of different types apart; numba's own types take fifty times as long."""
    return (value.dtype, value.ndim, value.flags.c_contiguous) if isinstance(value, np.ndarray) else type(value)


def _compile(function: Any, types: tuple[Any, ...], wait: bool) -> bool:
    """Load or compile a kernel; return False if another process does so and this one is not to wait."""
    lock = FileLock(Path(function.stats.cache_path) / f"{function.py_func.__name__}.lock")
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        return False
    except OSError:  # the folder cannot be written
        pass
    try:
        function.compile(types)
    finally:
        lock.release()
    return True
