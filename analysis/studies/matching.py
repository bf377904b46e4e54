"""Match a variant's cost to the base's by its growth rate, or block by block."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from itertools import product
from statistics import pvariance

from analysis.axes import MATCH_TOLERANCE
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


def match_blocks(model: ModelConfig, macs: int) -> ModelConfig:
    """Return `model` with smaller growth rates, whose final MACs come near to `macs`, matched block by block.

    Of the networks within the tolerance it is the one whose blocks grow most like those of `model`.
    """

    def rank(rates: tuple[int, ...]) -> tuple[float, float]:
        excess = abs(cost_table(dataclasses.replace(model, growth=rates)).macs / macs - 1)
        shrunk = [math.log(rate / own) for rate, own in zip(rates, model.growth, strict=True)]
        return max(excess, MATCH_TOLERANCE), pvariance(shrunk)

    best = min(_scaled(model), key=rank)
    return dataclasses.replace(model, growth=min(_neighbours(best, width_step(model)), key=rank))


def _scaled(model: ModelConfig) -> dict[tuple[int, ...], None]:
    """Return growth rates of 1 % to 100 % of the model's, in steps that all groups divide, each once."""
    step, shares = width_step(model), (percent / 100 for percent in range(1, 101))
    return dict.fromkeys(
        tuple(step * max(1, round(share * rate / step)) for rate in model.growth) for share in shares
    )


def _neighbours(rates: tuple[int, ...], step: int) -> Iterator[tuple[int, ...]]:
    """Yield growth rates that differ by at most one step in each block, the given ones first."""
    return product(
        *([rate, rate - step, rate + step] if rate > step else [rate, rate + step] for rate in rates)
    )
