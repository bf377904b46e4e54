"""The meanings of "FLOPs": one network under every convention in use, and the parts that each leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from condense_core.cost import CostTable

EXACT = ("conv", "linear")  # the operators that `macs` counts too

Row = tuple[str, int, str]  # name, figure and meaning


@dataclass(frozen=True)
class Count:
    """What fvcore and torch count of a network as it is executed, for one image."""

    operators: dict[str, int]  # fvcore's, by operator
    uncounted: dict[str, int]  # calls of operators that fvcore does not know
    torch_flops: int  # torch.utils.flop_counter: two per multiply-add of convolutions and matrix products

    @property
    def total(self) -> int:
        """The sum that fvcore gives, batch norms and pooling included."""
        return sum(self.operators.values())

    @property
    def macs(self) -> int:
        """The multiply-adds of convolutions and linear layers in it."""
        return sum(self.operators.get(name, 0) for name in EXACT)


@dataclass(frozen=True)
class Conventions:
    """A network under every convention: by its masks and, if it was run, as executed (dense) and condensed."""

    table: CostTable
    masked: Count | None = None
    condensed: Count | None = None

    def rows(self) -> list[Row]:
        """Return rows of name, figure and meaning."""
        table = self.table
        paper = "as in the paper: live MACs of convolutions, ReLUs, pooling, classifier"
        return [
            ("flops_paper", table.flops_paper, paper),
            ("macs", table.macs, "live multiply-adds of convolutions and linear layers"),
            *self._executed(),
            ("params", table.params, "live weights and all other learnable parameters"),
        ]

    def _executed(self) -> Iterator[Row]:
        if not self.masked:
            return
        name = last = "masked-dense" if self.condensed else "executed"
        zeros = "the same as executed: zeros under a mask are multiplied too"
        yield f"{name} macs", self.masked.macs, zeros
        yield f"{name} fvcore", self.masked.total, "fvcore's total of that: batch norms and pooling besides"
        if small := self.condensed:
            last, folded = "condensed", "fvcore's total of that: norms after a 1x1 are folded into it"
            yield "condensed macs", small.macs, "multiply-adds of the condensed network, counted by fvcore"
            yield "condensed fvcore", small.total, folded
        flops = (self.condensed or self.masked).torch_flops
        yield f"{last} torch", flops, "torch.utils.flop_counter: two for each multiply-add"

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        counts = {"masked": self.masked, "condensed": self.condensed}
        return {name: figure for name, figure, _ in self.rows()} | {
            f"fvcore_{name}": {"operators": count.operators, "uncounted": count.uncounted}
            for name, count in counts.items()
            if count
        }
