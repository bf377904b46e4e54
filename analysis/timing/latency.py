"""Times of calls that take turns, their uncertainty, and the memory that a call takes."""

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

from analysis.stats import CONFIDENCE, Interval

PAUSE = 0.02  # seconds; idle threads of some runtimes keep a core busy that long
WARM_UP = 0.05  # seconds
Call = Callable[[], object]


@dataclass(frozen=True)
class MedianInterval(Interval):
    """A median with its 95 % interval, which assumes nothing about the distribution of times."""

    median: float


def median_of(values: np.ndarray) -> MedianInterval:
    """Return the median of some values; its interval is their range if they are too few for one."""
    found = stats.quantile_test(values, p=0.5).confidence_interval(CONFIDENCE)
    low, high = np.nan_to_num([found.low, found.high], nan=np.inf)
    inside = np.isfinite([low, high])
    return MedianInterval(
        low=float(low if inside[0] else values.min()),
        high=float(high if inside[1] else values.max()),
        median=float(np.median(values)),
    )


def take_turns(calls: Mapping[str, Call], repeats: int) -> dict[str, np.ndarray]:
    """Time `repeats` rounds in which all calls take turns, so that all see the same machine; in milliseconds.

    Before each turn the threads of the call before go to sleep, and the call warms up its caches and threads.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            time.sleep(PAUSE)
            warm = time.perf_counter() + WARM_UP
            call()
            while time.perf_counter() < warm:
                call()
            start = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: np.array(values) for name, values in times.items()}


@dataclass(frozen=True)
class Tie:
    """Two calls with neighbouring medians, whose order the measurement does not show; and their ratio."""

    first: str
    second: str
    ratio: MedianInterval


def ties(times: Mapping[str, np.ndarray]) -> list[Tie]:
    """Return the neighbours whose ratio, round by round, has an interval that includes 1."""
    order = sorted(times, key=lambda name: float(np.median(times[name])))
    pairs = [(a, b, median_of(times[b] / times[a])) for a, b in itertools.pairwise(order)]
    return [Tie(a, b, ratio) for a, b, ratio in pairs if ratio.includes(1)]


def gemm_gflops(size: int = 1536, repeats: int = 7) -> float:
    """Measure the machine's limit: the highest GFLOP/s of a square float32 product in torch's threads."""
    a, b = torch.randn(2, size, size, generator=torch.Generator().manual_seed(0))
    times = take_turns({"product": lambda: a @ b}, repeats)["product"]
    return 2 * size**3 / float(times.min()) / 1e6


def memory_of(build: Callable[[], Call]) -> tuple[Call, int | None]:
    """Return the call that `build` makes, and by how many bytes building and running it once raised the peak.

    The bytes are None if the system does not report them (only Linux does).
    """
    before = _resident()
    call = build()
    call()
    after = _status("VmHWM")
    return call, None if before is None or after is None else max(0, after - before)


def _resident() -> int | None:
    """Return the resident bytes, and reset the peak to them."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory that was freed but kept would hide what is taken
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    return _status("VmRSS")


def _status(field: str) -> int | None:
    path = Path("/proc/self/status")
    found = re.search(rf"{field}:\s+(\d+)", path.read_text()) if path.exists() else None
    return 1024 * int(found[1]) if found else None
