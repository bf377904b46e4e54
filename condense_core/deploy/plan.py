"""Plans: how each layer of a condensed network is computed fastest on this machine, measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor

from condense_core import fast
from condense_core.config import EXECUTIONS, Execution
from condense_core.files import NonNegativeInt, check_record
from condense_core.machine import processor
from condense_core.model import CondenseNet

from .condensed import CondensedBlock

CHOICES = {
    "grouped": "each group reads its own inputs",
    "union": "one group reads the inputs that any group reads",
    "dense": "one group reads all inputs",
}
"""How a 1×1 convolution can be computed; where one group reads, weights of 0 stand for what is pruned."""


@dataclass(frozen=True)
class LayerPlan:
    """A layer: inputs of all it could read, outputs, and the milliseconds a batch of each execution."""

    name: str
    in_channels: int
    kept: int
    milliseconds: dict[str, float]

    @property
    def chosen(self) -> str:
        """The fastest execution."""
        return min(self.milliseconds, key=lambda execution: self.milliseconds[execution])


@dataclass(frozen=True)
class Plan:
    """What was measured, for which batches and where; `network` has milliseconds a batch of the whole."""

    layers: tuple[LayerPlan, ...]
    network: dict[str, float]
    batch: int
    image_size: tuple[int, int]
    threads: int
    processor: str

    @property
    def execution(self) -> Execution:
        """How the whole is faster: 'fast', each layer as chosen, or 'reference', in torch's modules."""
        return min(("fast", "reference"), key=lambda execution: self.network.get(execution, math.inf))

    @property
    def is_of_here(self) -> bool:
        """Whether it was measured on such a processor with as many threads."""
        return (self.threads, self.processor) == (torch.get_num_threads(), processor())

    def apply(self, model: CondenseNet) -> CondenseNet:
        """`model` as the plan says, for inference: its weights take no more gradients.

        Raises ValueError where the plan is another network's.
        """
        planned, blocks = [layer.name for layer in self.layers], condensed_blocks(model)
        names = [f"{name}.{place}" for name, block in blocks.items() for place in range(len(block))]
        if planned and planned != names:
            raise ValueError(f"plan: is of the layers {_ends(planned)}, but the network has {_ends(names)}")
        chosen = iter(self.layers)
        for block in blocks.values() if planned else ():
            block.choices = tuple(next(chosen).chosen for _ in block.choices)
        model.eval().requires_grad_(False)
        fast.use(model, self.execution)
        return model

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """The plan of such values. Raises ValueError where they are none of a plan."""
        check_record(values, PlanRecord, "plan")
        layers = [
            LayerPlan(**{name: layer[name] for name in LayerRecord.__annotations__})
            for layer in values["layers"]
        ]
        for name, times, valid in (
            ("network", values["network"], EXECUTIONS),
            *((layer.name, layer.milliseconds, CHOICES) for layer in layers),
        ):
            if not times or not times.keys() <= set(valid) or not all(map(is_time, times.values())):
                raise ValueError(f"plan: {name}: must have milliseconds of {', '.join(valid)}")
        plain = {name: values[name] for name in ("network", "batch", "threads", "processor")}
        height, width = values["image_size"]
        return cls(tuple(layers), image_size=(height, width), **plain)

    def __str__(self) -> str:
        import pandas as pd

        height, width = self.image_size
        rows = [
            (layer.name, layer.in_channels, layer.kept, *layer.milliseconds.values(), layer.chosen)
            for layer in self.layers
        ]
        columns = ["layer", "inputs", "kept", *(f"{execution}, ms" for execution in CHOICES), "chosen"]
        whole = ", ".join(f"{execution} {value:.2f} ms" for execution, value in self.network.items())
        return "\n".join(
            [
                f"Batch {self.batch}, {height} x {width} pixels, {self.threads} threads, {self.processor}.",
                pd.DataFrame(rows, columns=columns).round(3).to_string(index=False)
                if rows
                else WITHOUT_KERNELS,
                *(f"{execution}: {meaning}." for execution, meaning in CHOICES.items() if rows),
                f"The whole network: {whole}; it runs by {self.execution!r}.",
            ]
        )


def is_time(value: Any) -> bool:
    """Whether a value of a file is a number of at least 0."""
    return type(value) in (int, float) and 0 <= value < math.inf


class LayerRecord(TypedDict):
    """A layer of a stored plan."""

    name: str
    in_channels: NonNegativeInt
    kept: NonNegativeInt
    milliseconds: dict[str, Any]


class PlanRecord(TypedDict):
    """A stored plan."""

    layers: list[LayerRecord]
    network: dict[str, Any]
    batch: NonNegativeInt
    image_size: list[NonNegativeInt]
    threads: NonNegativeInt
    processor: str


WITHOUT_KERNELS = "The kernels are not there (they need numba): the network runs in torch's modules, slower."


def _ends(names: list[str]) -> str:
    return f"{names[0]} to {names[-1]} ({len(names)})" if names else "of no condensed block"


def condensed_blocks(model: CondenseNet) -> dict[str, CondensedBlock]:
    """The condensed dense blocks of a network by name."""
    return {name: part for name, part in model.named_modules() if isinstance(part, CondensedBlock)}


@torch.no_grad()
def make_plan(model: CondenseNet, images: Tensor, repeats: int = 7) -> Plan:
    """Measure every execution of every layer on `images` (N, 3, H, W), and let `model` run by the fastest.

    Times are the least of `repeats`, the executions in turn. Raises ValueError where the network is not
    condensed, or where the images are none that the kernels read.
    """
    names = {block: name for name, block in condensed_blocks(model).items()}
    if not names:
        raise ValueError("plan: the network is not condensed; condense(model) gives one that is")
    if fast.available() and not fast.can_run(images):
        raise ValueError(
            f"plan: images must be float32 or float64 on the CPU, not {images.dtype} on {images.device}"
        )
    height, width = images.shape[2:]
    model.eval().requires_grad_(False)
    fast.use(model, "reference")
    layers: list[LayerPlan] = []
    features = model.stem(images)
    for part in model.blocks:
        if part in names and fast.available():
            layers += _measure_block(names[part], part, features, repeats)
        features = part(features)
    plan = Plan(tuple(layers), {}, len(images), (height, width), torch.get_num_threads(), processor())
    return _measure_network(plan, model, images, repeats)


def _measure_block(name: str, block: CondensedBlock, x: Tensor, repeats: int) -> list[LayerPlan]:
    layers = fast.layers_by_choice(block, x, CHOICES)
    if layers is None:
        raise ValueError(f"plan: {name} has modules or hooks that the kernels do not know")
    return [
        LayerPlan(f"{name}.{place}", layer.in_channels, layer.kept, fastest(layer.calls, repeats))
        for place, layer in enumerate(layers)
    ]


def _measure_network(plan: Plan, model: CondenseNet, images: Tensor, repeats: int) -> Plan:
    """`plan` with the times of the whole network, applied."""

    def run(execution: Execution) -> None:
        fast.use(model, execution)
        model(images)

    replace(plan, network={"fast": 0.0}).apply(model)
    executions: list[Execution] = ["fast", "reference"] if plan.layers else ["reference"]
    plan = replace(plan, network=fastest({each: partial(run, each) for each in executions}, repeats))
    plan.apply(model)
    return plan


def fastest(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The least milliseconds of each of some calls that take turns, after one that does not count."""
    least = dict.fromkeys(calls, math.inf)
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if repeat:
                least[name] = min(least[name], 1000 * (time.perf_counter() - began))
    return least
