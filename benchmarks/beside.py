"""Compare two sides that take turns: by the clock, and by the processor's time, which others hardly disturb."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from analysis.timing.latency import median_of, take_turns
from condense_core.deploy.measuring import shortest


def beside(turns: Mapping[str, Callable[[], object]], batch: int, repeats: int) -> dict[str, float]:
    """Return the ratios of the condensed side to the other one, and the milliseconds per image of both."""
    (other,) = turns.keys() - {"condensed"}
    times, processor = take_turns(dict(turns), repeats), shortest(turns, repeats, time.process_time)
    ratio = median_of(times["condensed"] / times[other])
    found = {side: float(np.median(values)) / batch for side, values in times.items()}
    found["processor_ratio"] = processor["condensed"] / processor[other]
    return found | {"ratio": ratio.median, "ratio_low": ratio.low, "ratio_high": ratio.high}


def in_words(row: Mapping[str, float], other: str) -> str:
    """Return a result of `beside` as text."""
    return (
        f"{row[other]:8.3f} → {row['condensed']:8.3f} ms per image, {row['ratio']:.2f} "
        f"({row['ratio_low']:.2f} to {row['ratio_high']:.2f}); processor's time {row['processor_ratio']:.2f}"
    )
