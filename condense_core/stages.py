"""Stages of condensation (paper Sec. 3.1): when each begins, and how many inputs a group keeps in it."""

from __future__ import annotations

import math
from fractions import Fraction

from .config import Pruning


def kept_inputs(in_channels: int, condense_factor: int, stage: int) -> int:
    """Inputs that every group still reads in `stage` (0 … C−1): ceil(I·(C−s)/C)."""
    return -(-in_channels * (condense_factor - stage) // condense_factor)


def stage_of(progress: float | Fraction, condense_factor: int, pruning: Pruning = "condensing") -> int:
    """Stage at a fraction of training in [0, 1).

    Condensing: C−1 stages share the first half. The others train a dense network for half of the time, then
    prune it at once, or stage by stage over the third quarter.
    """
    last = condense_factor - 1
    if pruning == "condensing":
        return min(last, math.floor(2 * progress * last))
    if 2 * progress < 1:
        return 0
    return last if pruning == "one-shot" else min(last, 1 + math.floor((4 * progress - 2) * last))


def layer_stage(stage: int, last_stage: int, condense_factor: int) -> int:
    """Stage of a layer with its own condense factor where the network (0 … `last_stage`) enters `stage`."""
    return stage_of(Fraction(stage, 2 * max(last_stage, 1)), condense_factor)
