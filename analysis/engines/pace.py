"""How long an epoch of each network takes, by the epochs that were trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean


@dataclass
class Pace:
    """Seconds of an epoch by the MACs of the network; `seen` has those of each run that trained."""

    seen: dict[str, tuple[int, float]] = field(default_factory=dict)

    def of(self, macs: int) -> float:
        """Return the seconds of an epoch: on a line between networks that trained, in proportion above them."""
        measured: dict[int, list[float]] = {}
        for own, seconds in self.seen.values():
            measured.setdefault(own, []).append(seconds)
        known = [(own, mean(values)) for own, values in sorted(measured.items())]
        if not known:
            return 1.0
        for (low, fast), (high, slow) in pairwise(known):
            if low <= macs <= high:
                return fast + (slow - fast) * (macs - low) / (high - low)
        (lowest, fastest), (highest, slowest) = known[0], known[-1]
        return fastest if macs <= lowest else slowest * macs / highest
