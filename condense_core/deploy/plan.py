"""Plans: how each layer of a condensed network is computed fastest on this machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypedDict

import torch
from torch import nn

from condense_core import fast
from condense_core.config import EXECUTIONS, Execution
from condense_core.files import NonNegativeInt, check_record
from condense_core.machine import processor
from condense_core.model import CondenseNet

from .blocks import CondensedBlock

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

    @cached_property
    def choices(self) -> Mapping[str, tuple[str, ...]]:
        """The choices of each block's layers by the block's name; none if torch's modules are faster."""
        found: dict[str, tuple[str, ...]] = {}
        for layer in self.layers if self.execution == "fast" else ():
            block = layer.name.split(".")[1]
            found[block] = (*found.get(block, ()), layer.chosen)
        return found

    def check_fits(self, blocks: nn.Module) -> None:
        """Raise ValueError if the plan was made for a network with other layers."""
        planned, names = [layer.name for layer in self.layers], layer_names(blocks)
        if planned and planned != names:
            raise ValueError(f"plan: is for the layers {_ends(planned)}, but the network has {_ends(names)}")

    def apply(self, model: CondenseNet) -> CondenseNet:
        """Let a condensed network run as planned whatever the shape of its input, and return it.

        Raises ValueError if the plan was made for another network.
        """
        self.check_fits(model.blocks)
        model.blocks.given = self  # type: ignore[assignment]
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


def layer_names(blocks: nn.Module) -> list[str]:
    """Return the names of the condensed layers of a network's blocks, in order."""
    return [
        f"blocks.{name}.{place}"
        for name, block in blocks.named_children()
        if isinstance(block, CondensedBlock)
        for place in range(len(block))
    ]
