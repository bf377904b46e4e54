"""What `learn_groups` did to a network: the layers that learn groups, and those left alone with the reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer of a network; `reason` says why it was left alone, if it was."""

    name: str
    kind: str
    inputs: int
    outputs: int
    reason: str

    @property
    def is_replaced(self) -> bool:
        """Whether it learns groups now."""
        return not self.reason


@dataclass(frozen=True, repr=False)
class LearnedGroups:
    """Every convolution and linear layer of a network; as text it is a table."""

    groups: int
    condense_factor: int
    layers: tuple[Layer, ...]

    @property
    def replaced(self) -> tuple[Layer, ...]:
        """The layers that learn groups now."""
        return tuple(layer for layer in self.layers if layer.is_replaced)

    @property
    def left_out(self) -> tuple[Layer, ...]:
        """The layers left alone, each with its reason."""
        return tuple(layer for layer in self.layers if not layer.is_replaced)

    def __repr__(self) -> str:
        how = f"{self.groups} groups, condense factor {self.condense_factor}"
        rows = [
            (layer.name, layer.kind, f"{layer.inputs} → {layer.outputs}", layer.reason or "learns groups")
            for layer in self.layers
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
        title = f"{len(self.replaced)} of {len(self.layers)} layers learn groups ({how})"
        return "\n".join([title, *(line.rstrip() for line in lines)])
