"""Sharing the work of a kernel among torch's threads."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch

Task = Callable[[int], None]
_NATIVE_TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_ONE_CALL_AT_A_TIME = Lock()  # tasks of a call may wait for one another, so none may queue after another call's


def share(
    kernel: Callable[..., None], count: int, *arguments: Any, summed: tuple[np.ndarray, ...] = ()
) -> None:
    """Call a kernel on 0 … count−1, shared among torch's threads; each adds to its own copy of `summed`."""
    threads = min(torch.get_num_threads(), count)
    if threads == 1:
        kernel(*arguments, *summed, 0, count)
        return
    ends = [count * thread // threads for thread in range(threads + 1)]
    parts = [summed, *(tuple(map(np.zeros_like, summed)) for _ in range(threads - 1))]
    together(lambda thread: kernel(*arguments, *parts[thread], ends[thread], ends[thread + 1]), threads)
    for part in parts[1:]:
        for total, addend in zip(summed, part, strict=True):
            np.add(total, addend, out=total)


def together(task: Task, threads: int) -> None:
    """Run task(0) … task(threads − 1) at the same time, each in its own thread."""
    if _team(threads, os.getpid()):
        run_in_team(task, threads)
    else:
        run_in_pool(task, threads)


def run_in_pool(task: Task, threads: int) -> None:
    """Run in Python's threads, if torch's are not the ones that we know."""
    with _ONE_CALL_AT_A_TIME:
        pool = _pool(threads, os.getpid())
        others = [pool.submit(task, thread) for thread in range(1, threads)]
    task(0)
    for other in others:
        other.result()


@lru_cache(maxsize=8)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1)


def run_in_team(task: Task, threads: int) -> None:
    """Run in torch's OpenMP threads.

    After torch has used them they keep their cores busy for a while, so other threads would have to wait.
    """
    numbers, errors = count(), []

    def run_next(_: object) -> None:
        try:
            task(next(numbers))
        except BaseException as error:  # it would get lost in the C code in between
            errors.append(error)

    openmp_parallel()(_NATIVE_TASK(run_next), None, threads, 0)
    if errors:
        raise errors[0]


@lru_cache(maxsize=8)
def _team(threads: int, process: int) -> bool:
    """Return whether so many of torch's threads run at the same time; OpenMP can be set to start fewer."""
    if openmp_parallel() is None:
        return False
    seen: list[int] = []
    run_in_team(seen.append, threads)
    return len(seen) == threads


@lru_cache(maxsize=1)
def openmp_parallel() -> Any:
    """Return the function that starts a team of threads, of torch's own GNU OpenMP; None if there is none."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        parallel = library.GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes, parallel.restype = (_NATIVE_TASK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return parallel
