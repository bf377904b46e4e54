"""The time of every layer and part, to show which saved MACs save time."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from condense_core import CondenseNet, cost_table
from condense_core.deploy import make_plan
from condense_core.model import DenseLayer

from .runtimes import Subject

DENSE, AS_MACS_SAY, CONDENSED, FAST = "dense", "if time followed MACs", "condensed torch", "condensed fast"
PARTS = {
    "index": "gather",
    "norm1": "normalisation",
    "relu1": "normalisation",
    "conv1": "1×1",
    "norm2": "normalisation",
    "relu2": "normalisation",
    "shuffle": "shuffle",
    "conv2": "3×3",
}
"""The part of a dense layer that each module belongs to; the rest of its time is the concatenation."""
REST, WHOLE = "stem, pooling, head", "layer in one call"


@torch.no_grad()
def waterfall(network: Subject, images: Tensor, repeats: int) -> pd.DataFrame:
    """Measure milliseconds per batch by layer, part and execution, and GFLOP/s of convolutions.

    The executions: the dense network in torch; the same if 1×1 convolutions took time as their MACs say; the
    condensed network in torch, module by module; ours, in one call per layer. Return an empty frame if the
    network cannot be condensed.
    """
    if network.condensed is None or not isinstance(network.dense, CondenseNet):
        return pd.DataFrame(columns=["layer", "part", "execution", "milliseconds", "gflops"])
    dense_macs, macs = (_macs(model, network.image_size) for model in (network.dense, network.condensed))
    dense, condensed = (_parts(model, images, repeats) for model in (network.dense, network.condensed))
    rows = []
    for (layer, part), spent in dense.items():
        share = macs[layer, part] / dense_macs[layer, part] if (layer, part) in dense_macs else 1.0
        rows.append((layer, part, DENSE, spent, dense_macs.get((layer, part))))
        rows.append((layer, part, AS_MACS_SAY, spent * share, macs.get((layer, part))))
    for (layer, part), spent in condensed.items():
        rows.append((layer, part, CONDENSED, spent, macs.get((layer, part))))
        if part == REST:
            rows.append((layer, part, FAST, spent, None))
    plan = make_plan(network.condensed, images, repeats)
    for row in plan.layers:
        both = sum(macs[row.name, part] for part in ("1×1", "3×3"))
        rows.append((row.name, WHOLE, FAST, row.milliseconds[row.chosen], both))
    frame = pd.DataFrame(rows, columns=["layer", "part", "execution", "milliseconds", "macs"])
    frame["gflops"] = 2e-6 * len(images) * frame.macs.astype(float) / frame.milliseconds
    return frame.drop(columns="macs")


def _macs(model: nn.Module, image_size: int) -> dict[tuple[str, str], int]:
    """Return the MACs of one image by layer and part."""
    found = {}
    for row in cost_table(model, None, image_size).layers:
        layer, _, module = row.name.rpartition(".")
        if module in ("conv1", "conv2") and row.macs:
            found[layer, PARTS[module]] = row.macs
    return found


def _parts(model: nn.Module, images: Tensor, repeats: int) -> dict[tuple[str, str], float]:
    """Measure the median milliseconds of every layer's parts, module by module in torch."""
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    handles, layers = [], []
    for name, module in model.named_modules():
        if isinstance(module, DenseLayer):
            layers.append(name)
            handles += _watch(module, (name, "whole"), spent)
            handles += [h for child, own in module.named_children() for h in _watch(own, (name, child), spent)]
        elif re.fullmatch(r"blocks\.transition\d+|stem|norm|relu|pool|classifier", name):
            handles += _watch(module, (name, REST), spent)
    for _ in range(repeats + 1):
        model(images)
    for handle in handles:
        handle.remove()
    medians = {key: float(np.median(values[1:])) for key, values in spent.items()}
    parts: dict[tuple[str, str], float] = defaultdict(float)
    for (layer, child), value in medians.items():
        if child == "whole":
            known = sum(other for (name, part), other in medians.items() if name == layer and part != "whole")
            parts[layer, "concatenation"] += max(0.0, value - known)
        else:
            parts[layer, PARTS.get(child, child)] += value
    return dict(parts)


def _watch(module: nn.Module, key: tuple[str, str], spent: dict[tuple[str, str], list[float]]) -> list[Any]:
    starts = []

    def before(*_: Any) -> None:
        starts.append(time.perf_counter())

    def after(*_: Any) -> None:
        spent[key].append(1000 * (time.perf_counter() - starts.pop()))

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
