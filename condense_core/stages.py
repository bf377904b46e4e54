"""What happens when in training: the stages of condensation (paper Sec. 3.1)."""

from __future__ import annotations

import math
from fractions import Fraction

from .config import Pruning


def kept_inputs(in_channels: int, condense_factor: int, stage: int) -> int:
    """Return how many inputs every group still reads in `stage` (0 … C−1): ceil(I·(C−s)/C).

    >>> [kept_inputs(16, 4, stage) for stage in range(4)]
    [16, 12, 8, 4]
    >>> kept_inputs(10, 4, 3)
    3
    """
    return -(-in_channels * (condense_factor - stage) // condense_factor)


def stage_of(progress: float | Fraction, condense_factor: int, pruning: Pruning = "condensing") -> int:
    """Return the stage at a fraction of training in [0, 1).

    When condensing, C−1 stages share the first half. 'at-start' prunes before the first step. The other ways
    train a dense network for half of the time, then prune it at once, or stage by stage over the third quarter.

    >>> [stage_of(progress, 4) for progress in (0, 0.2, 0.4, 0.5, 0.9)]
    [0, 1, 2, 3, 3]
    >>> [stage_of(progress, 4, "gradual") for progress in (0, 0.4, 0.5, 0.6, 0.7, 0.9)]
    [0, 0, 1, 2, 3, 3]
    """
    last = condense_factor - 1
    if pruning == "condensing":
        return min(last, math.floor(2 * progress * last))
    if pruning == "at-start":
        return last
    if 2 * progress < 1:
        return 0
    return last if pruning == "one-shot" else min(last, 1 + math.floor((4 * progress - 2) * last))


def layer_stage(stage: int, last_stage: int, condense_factor: int) -> int:
    """Return the stage of a layer with its own condense factor when the network enters `stage`.

    The network has the stages 0 … `last_stage`; both reach their last stage at the same time.

    >>> [layer_stage(stage, 3, condense_factor=2) for stage in range(4)]
    [0, 0, 0, 1]
    """
    return stage_of(Fraction(stage, 2 * max(last_stage, 1)), condense_factor)


def kept_in_stage(in_channels: int, condense_factor: int, stage: int, last_stage: int, learned: bool) -> int:
    """Return how many inputs each group of a layer keeps in `stage` of the network's 0 … `last_stage`.

    Groups that are not learned keep the last stage's share from the start.

    >>> kept_in_stage(16, 4, 1, 3, learned=True), kept_in_stage(16, 4, 1, 3, learned=False)
    (12, 4)
    """
    reached = layer_stage(stage, last_stage, condense_factor) if learned else condense_factor - 1
    return kept_inputs(in_channels, condense_factor, reached)
