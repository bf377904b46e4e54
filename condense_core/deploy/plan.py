"""Plans: how each layer of a condensed network is computed fastest on this machine, measured."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from condense_core import fast
from condense_core.config import EXECUTIONS, Execution
from condense_core.files import NonNegativeInt, check_record
from condense_core.looking import evaluating
from condense_core.machine import processor
from condense_core.model import CondenseNet

from .condensed import CondensedBlock

CHOICES = {
    "grouped": "each group reads its own inputs",
    "union": "one group reads the inputs that any group reads",
    "dense": "one group reads all inputs",
}
"""How a 1×1 convolution can be computed. If one group reads all, pruned connections are weights of 0."""


@dataclass(frozen=True)
class LayerPlan:
    """A layer: the inputs that it could read and those that a group keeps; milliseconds per batch by choice."""

    name: str
    in_channels: int
    kept: int
    milliseconds: dict[str, float]

    @property
    def chosen(self) -> str:
        """The fastest choice."""
        return min(self.milliseconds, key=lambda choice: self.milliseconds[choice])


@dataclass(frozen=True)
class Plan:
    """Times of each layer and of the whole network (milliseconds per batch), with the batch and the machine."""

    layers: tuple[LayerPlan, ...]
    network: dict[str, float]
    batch: int
    image_size: tuple[int, int]
    threads: int
    processor: str

    @property
    def execution(self) -> Execution:
        """The faster execution of the whole: 'fast', each layer as chosen, or 'reference', torch's modules."""
        return min(("fast", "reference"), key=lambda execution: self.network.get(execution, math.inf))

    @property
    def matches_this_machine(self) -> bool:
        """Whether the plan was measured on the same processor with the same number of threads."""
        return (self.threads, self.processor) == (torch.get_num_threads(), processor())

    def apply(self, model: CondenseNet) -> CondenseNet:
        """Let `model` run as planned, and return it; for inference: its weights take no more gradients.

        Raises ValueError if the plan was made for another network.
        """
        planned, blocks = [layer.name for layer in self.layers], condensed_blocks(model)
        names = [f"{name}.{place}" for name, block in blocks.items() for place in range(len(block))]
        if planned and planned != names:
            raise ValueError(f"plan: is for the layers {_ends(planned)}, but the network has {_ends(names)}")
        chosen = iter(self.layers)
        for block in blocks.values() if planned else ():
            block.choices = tuple(next(chosen).chosen for _ in block.choices)
        model.eval().requires_grad_(False)
        fast.use(model, self.execution)
        return model

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """Parse a plan; raise ValueError if the values are not one."""
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
    """Return whether a value from a file is a finite number of at least 0."""
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


WITHOUT_KERNELS = (
    "The kernels are not available (they need numba): the network runs in torch's modules, slower."
)


def _ends(names: list[str]) -> str:
    return f"{names[0]} to {names[-1]} ({len(names)})" if names else "none"


def condensed_blocks(model: CondenseNet) -> dict[str, CondensedBlock]:
    """Return the condensed dense blocks of a network by name."""
    return {name: part for name, part in model.named_modules() if isinstance(part, CondensedBlock)}


def make_plan(model: CondenseNet, images: Tensor, repeats: int = 7) -> Plan:
    """Measure each layer of `model` by each choice on `images` (N, 3, H, W); let it run by the fastest.

    Nothing else of the model is changed; the kernels compute it in evaluation mode without gradients. Times are
    the shortest of `repeats`; the choices take turns. Raises ValueError if the network is not condensed, or if
    the kernels cannot read the images.
    """
    if not condensed_blocks(model):
        raise ValueError("plan: the network is not condensed; condense(model) gives one that is")
    if fast.available() and not fast.can_run(images):
        raise ValueError(
            f"plan: images must be float32 or float64 on the CPU, not {images.dtype} on {images.device}"
        )
    executions = [(part, dict(vars(part))) for part in model.blocks]
    try:
        with evaluating(model):
            plan = _measure_layers(model, images, repeats)
            return _measure_network(plan, model, images, repeats)
    except BaseException:
        for part, before in executions:
            vars(part).update({name: before.get(name) for name in ("engine", "choices") if name in vars(part)})
        raise


def _measure_layers(model: CondenseNet, images: Tensor, repeats: int) -> Plan:
    names: dict[nn.Module, str] = {block: name for name, block in condensed_blocks(model).items()}
    fast.use(model, "reference")
    layers: list[LayerPlan] = []
    features = model.stem(images)
    for part in model.blocks:
        if isinstance(part, CondensedBlock) and fast.available():
            layers += _measure_block(names[part], part, features, repeats)
        features = part(features)
    size = images.shape[2], images.shape[3]
    return Plan(tuple(layers), {}, len(images), size, torch.get_num_threads(), processor())


def _measure_block(name: str, block: CondensedBlock, x: Tensor, repeats: int) -> list[LayerPlan]:
    layers = fast.layers_by_choice(block, x, CHOICES)
    if layers is None:
        raise ValueError(f"plan: {name} has modules or hooks that the kernels do not support")
    return [
        LayerPlan(f"{name}.{place}", layer.in_channels, layer.kept, fastest(layer.calls, repeats))
        for place, layer in enumerate(layers)
    ]


def _measure_network(plan: Plan, model: CondenseNet, images: Tensor, repeats: int) -> Plan:
    """Add the times of the whole network to `plan`, and apply it."""
    replace(plan, network={"fast": 0.0}).apply(model)
    reference = copy.deepcopy(model)  # takes turns with `model`: a changed engine would read the blocks again
    fast.use(reference, "reference")
    calls = {"fast": partial(model, images)} if plan.layers else {}
    plan = replace(plan, network=fastest(calls | {"reference": partial(reference, images)}, repeats))
    plan.apply(model)
    return plan


def fastest(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the shortest time of each call in milliseconds; they take turns, the first round not counted."""
    shortest = dict.fromkeys(calls, math.inf)
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if repeat:
                shortest[name] = min(shortest[name], 1000 * (time.perf_counter() - start))
    return shortest
