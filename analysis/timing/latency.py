"""Times of calls that take turns, how sure they are, and what memory a call takes."""

from __future__ import annotations

import ctypes
import itertools
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import stats

CONFIDENCE = 0.95
PAUSE = 0.02  # seconds, for which idle threads of some runtimes keep a core busy
WARM_UP = 0.05  # seconds
Call = Callable[[], object]


@dataclass(frozen=True)
class Interval:
    """A median with its 95 % interval, which needs no assumption on how times are distributed."""

    median: float
    low: float
    high: float


def median_of(values: np.ndarray) -> Interval:
    """The median of some values; its interval is their range where they are too few for one."""
    found = stats.quantile_test(values, p=0.5).confidence_interval(CONFIDENCE)
    low, high = np.nan_to_num([found.low, found.high], nan=np.inf)
    inside = np.isfinite([low, high])
    return Interval(
        float(np.median(values)),
        float(low if inside[0] else values.min()),
        float(high if inside[1] else values.max()),
    )


def take_turns(calls: Mapping[str, Call], repeats: int) -> dict[str, np.ndarray]:
    """Milliseconds of `repeats` rounds in which every call has its turn, so that all see the same machine.

    Before a turn the threads of the one before go to sleep, and the call warms up: caches, and its own threads.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            time.sleep(PAUSE)
            warm = time.perf_counter() + WARM_UP
            call()
            while time.perf_counter() < warm:
                call()
            began = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - began))
    return {name: np.array(values) for name, values in times.items()}


@dataclass(frozen=True)
class Tie:
    """Two calls, neighbours by their medians, whose order the measurement does not tell: ratio of the two."""

    first: str
    second: str
    ratio: Interval


def ties(times: Mapping[str, np.ndarray]) -> list[Tie]:
    """Neighbours of which the interval of the ratio, round by round, holds 1."""
    order = sorted(times, key=lambda name: float(np.median(times[name])))
    pairs = [(a, b, median_of(times[b] / times[a])) for a, b in itertools.pairwise(order)]
    return [Tie(a, b, ratio) for a, b, ratio in pairs if ratio.low <= 1 <= ratio.high]


def gemm_gflops(size: int = 1536, repeats: int = 7) -> float:
    """The machine's own limit: the most GFLOP/s of a square product in float32, in torch's threads."""
    a, b = torch.randn(2, size, size)
    times = take_turns({"product": lambda: a @ b}, repeats)["product"]
    return 2 * size**3 / float(times.min()) / 1e6


def memory_of(build: Callable[[], Call]) -> tuple[Call, int | None]:
    """The call that `build` makes, and the bytes by which building it and running it once raised the peak.

    None where the system does not tell (it takes Linux).
    """
    before = _resident()
    call = build()
    call()
    after = _status("VmHWM")
    return call, None if before is None or after is None else max(0, after - before)


def _resident() -> int | None:
    """Resident bytes now, with the peak set back to them."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed but kept would hide what is taken
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    return _status("VmRSS")


def _status(field: str) -> int | None:
    path = Path("/proc/self/status")
    found = re.search(rf"{field}:\s+(\d+)", path.read_text()) if path.exists() else None
    return 1024 * int(found[1]) if found else None
