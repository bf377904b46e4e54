"""The cost of a network for one image, layer by layer, and its sums."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer for one image; `output_size` is the height of its output in pixels."""

    name: str
    operator: str
    in_channels: int
    out_channels: int
    groups: int
    output_size: int
    macs: int
    flops_paper: int
    params: int


@dataclass(frozen=True)
class CostTable:
    """Cost of a network for one image: its layers in the order of execution, and their sums."""

    layers: tuple[LayerCost, ...]

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def flops_paper(self) -> int:
        """FLOPs as the paper counts them."""
        return sum(layer.flops_paper for layer in self.layers)

    @property
    def params(self) -> int:
        """Live weights plus all other learnable parameters."""
        return sum(layer.params for layer in self.layers)
