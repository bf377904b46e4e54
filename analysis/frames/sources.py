"""The 1×1 convolutions as the maps of connections show them: which inputs come from which layer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from condense_core.config import ModelConfig
from condense_core.store import TrackedConfig
from condense_core.topology import layers

TRANSITION = re.compile(r"blocks\.transition(\d+)\.conv")
DENSE_LAYER = re.compile(r"blocks\.block(\d+)\.(\d+)\.conv\d")


@dataclass(frozen=True)
class ReadingLayer:
    """A 1×1 convolution: its module, which names its mask, its label, and what it reads.

    `sources` are the labels of the layers that it reads, each with the range of its input channels.
    """

    module: str
    label: str
    position: int
    block: int
    outputs: int
    sources: tuple[tuple[str, int, int], ...]

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a frame that name the layer."""
        return {"target": self.label, "target_position": self.position, "block": self.block}

    @property
    def firsts(self) -> list[int]:
        """The first input channel of each source."""
        return [first for _, first, _ in self.sources]

    @cached_property
    def source_of(self) -> list[str]:
        """The layer that each input channel comes from."""
        return [source for source, first, last in self.sources for _ in range(last - first)]


def reading_layers(network: ModelConfig | TrackedConfig) -> Iterator[ReadingLayer]:
    """Yield every 1×1 convolution of a network, in order, with the layers whose outputs it reads.

    Labels are block.layer ('2.3'), 'stem' and 't1' for the first transition's 1×1 convolution. In a tracked
    network these are the layers that learn groups, under the names of their modules.
    """
    return _of_tracked(network) if isinstance(network, TrackedConfig) else _of_condensenet(network)


def _of_tracked(network: TrackedConfig) -> Iterator[ReadingLayer]:
    places = Places(network)
    blocks = list(dict.fromkeys(places.block(layer["name"]) for layer in network.layers))
    for position, layer in enumerate(network.layers):
        sources = tuple((places.short(source), start, stop) for source, start, stop in layer["sources"])
        name, block = layer["name"], blocks.index(places.block(layer["name"])) + 1
        yield ReadingLayer(name, places.short(name), position, block, layer["outputs"], sources)


class Places:
    """Where the modules of a tracked network are, without what all layers that learn groups are in."""

    def __init__(self, network: TrackedConfig):
        names = [layer["name"].split(".")[:-1] for layer in network.layers]
        same = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*names, strict=False))
        self.start = "".join(f"{parts[0]}." for parts in same)

    def short(self, name: str) -> str:
        """Return a name without what all of them begin with."""
        return " + ".join(part.removeprefix(self.start) for part in name.split(" + "))

    def block(self, name: str) -> str:
        """Return the part of the network that a module is in."""
        return self.short(name).partition(".")[0]


def _of_condensenet(model: ModelConfig) -> Iterator[ReadingLayer]:
    convolutions = [layer for layer in layers(model) if layer.kind == "conv1x1"]
    for position, layer in enumerate(convolutions):
        sources = tuple((_label(source.layer), source.start, source.stop) for source in layer.sources)
        label, block = _label(layer.name), _block(layer.name)
        yield ReadingLayer(layer.name, label, position, block, layer.out_channels, sources)


def _label(module: str) -> str:
    if found := TRANSITION.fullmatch(module):
        return f"t{found[1]}"
    if found := DENSE_LAYER.fullmatch(module):
        return f"{found[1]}.{int(found[2]) + 1}"
    return module


def _block(module: str) -> int:
    """Return the number of a layer's block, or of the block before its transition."""
    found = TRANSITION.fullmatch(module) or DENSE_LAYER.fullmatch(module)
    assert found, module
    return int(found[1])
