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
_ONE_AFTER_ANOTHER = (
    Lock()
)  # parts of one call may wait for one another, so none may stand behind another call's


def share(
    kernel: Callable[..., None], count: int, *arguments: Any, summed: tuple[np.ndarray, ...] = ()
) -> None:
    """Call a kernel on 0 … count−1, shared among torch's threads; what it sums up, each thread sums apart."""
    threads = min(torch.get_num_threads(), count)
    if threads == 1:
        kernel(*arguments, *summed, 0, count)
        return
    ends = [count * thread // threads for thread in range(threads + 1)]
    parts = [summed, *(tuple(map(np.zeros_like, summed)) for _ in range(threads - 1))]
    together(lambda thread: kernel(*arguments, *parts[thread], ends[thread], ends[thread + 1]), threads)
    for part in parts[1:]:
        for whole, more in zip(summed, part, strict=True):
            np.add(whole, more, out=whole)


def together(task: Task, threads: int) -> None:
    """Run task(0) … task(threads − 1) at the same time, each in a thread of its own."""
    if _team(threads, os.getpid()):
        _in_team(task, threads)
    else:
        _in_pool(task, threads)


def _in_pool(task: Task, threads: int) -> None:
    with _ONE_AFTER_ANOTHER:
        pool = _pool(threads, os.getpid())
        others = [pool.submit(task, thread) for thread in range(1, threads)]
    task(0)
    for other in others:
        other.result()


@lru_cache(maxsize=8)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1)


def _in_team(task: Task, threads: int) -> None:
    """Run in torch's OpenMP threads: idle, they keep a core busy for a while, and others would have to wait."""
    numbers, errors = count(), []

    def part(_: object) -> None:
        try:
            task(next(numbers))
        except BaseException as error:  # would end in the C code between
            errors.append(error)

    _parallel()(_NATIVE_TASK(part), None, threads, 0)
    if errors:
        raise errors[0]


@lru_cache(maxsize=8)
def _team(threads: int, process: int) -> bool:
    """Whether as many of torch's threads run at the same time; OpenMP can be told to start fewer."""
    if _parallel() is None:
        return False
    seen: list[int] = []
    _in_team(seen.append, threads)
    return len(seen) == threads


@lru_cache(maxsize=1)
def _parallel() -> Any:
    """GNU OpenMP's entry into a team of threads, of the copy that torch uses; None where there is none."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        parallel = library.GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes, parallel.restype = (_NATIVE_TASK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return parallel
