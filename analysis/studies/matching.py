"""Match a variant's cost to the base's by its growth rate."""

from __future__ import annotations

import dataclasses
import math

from condense_core.config import ModelConfig, growth_rates
from condense_core.cost import cost_table


def width_step(model: ModelConfig) -> int:
    """Return the smallest step of k0 with which all groups still divide their channels."""
    return math.lcm(model.groups_3x3, model.groups // math.gcd(model.groups, model.bottleneck))


def match_cost(model: ModelConfig, macs: int) -> ModelConfig:
    """Return `model` with the k0 whose final MACs are nearest to `macs`, in steps that all groups divide."""
    step, schedule = width_step(model), model.growth_schedule
    costed = dataclasses.replace(model, grouping="learned")  # all groupings cost the same: measure one

    def rates(steps: int) -> tuple[int, ...]:
        return growth_rates(schedule, steps * step, len(model.stages))

    def excess(steps: int) -> int:
        return cost_table(dataclasses.replace(costed, growth=rates(steps))).macs - macs

    above = 1
    while excess(above) < 0:
        above *= 2
    below = above // 2  # cost grows with k0: halve the bracket
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if excess(middle) < 0 else (below, middle)
    steps = min((below, above), key=lambda steps: abs(excess(steps)) if steps else math.inf)
    return dataclasses.replace(model, growth=rates(steps))
