"""Measure how each layer of a condensed network is computed fastest on this machine."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from condense_core import fast
from condense_core.machine import processor

from .blocks import CondensedBlock
from .plan import CHOICES, LayerPlan, Plan

Clock = Callable[[], float]  # seconds
Name = TypeVar("Name")


def run_parts(parts: nn.Module, x: Tensor, choices: Mapping[str, Sequence[str]]) -> Tensor:
    """Run blocks and transitions one after the other; the blocks that have choices run by kernels."""
    for name, part in parts._modules.items():
        assert part is not None
        x = part(x, choices[name]) if name in choices else part(x)
    return x


@torch.no_grad()
def measure(parts: nn.Module, x: Tensor, image_size: tuple[int, int], repeats: int) -> Plan:
    """Measure each layer by each choice, and then all by kernels and by torch's modules, on `x` (N, C, H, W).

    Times are the shortest of `repeats`; the choices take turns. Raises ValueError if the kernels cannot compute
    a block.
    """
    layers: list[LayerPlan] = []
    features = x
    for name, part in parts.named_children():
        if isinstance(part, CondensedBlock) and fast.available():
            layers += _measure_block(f"blocks.{name}", part, features, repeats)
        features = part(features)
    plan = Plan(tuple(layers), {}, len(x), image_size, torch.get_num_threads(), processor())
    calls = {"fast": lambda: run_parts(parts, x, plan.choices)} if layers else {}
    return replace(plan, network=shortest(calls | {"reference": lambda: run_parts(parts, x, {})}, repeats))


def _measure_block(name: str, block: CondensedBlock, x: Tensor, repeats: int) -> list[LayerPlan]:
    layers = fast.layers_by_choice(block, x, CHOICES)
    if layers is None:
        raise ValueError(f"plan: {name} has modules or hooks that the kernels do not support")
    return [
        LayerPlan(f"{name}.{place}", layer.in_channels, layer.kept, shortest(layer.calls, repeats))
        for place, layer in enumerate(layers)
    ]


def shortest(
    calls: Mapping[Name, Callable[[], object]],
    repeats: int,
    clock: Clock = time.perf_counter,
    seconds: float = 0.0,
) -> dict[Name, float]:
    """Return the shortest time of each call in milliseconds; they take turns, the first round not counted.

    There are so many `repeats`, and more until so many seconds have passed.
    """
    found, end = dict.fromkeys(calls, math.inf), time.perf_counter() + seconds
    for repeat in itertools.count():
        if repeat > repeats and time.perf_counter() >= end:
            break
        for name, call in calls.items():
            start = clock()
            call()
            if repeat:
                found[name] = min(found[name], 1000 * (clock() - start))
    return found
