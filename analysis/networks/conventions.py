"""The meanings of "FLOPs": one network under every convention in use, and the parts that each leaves out."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from condense_core.condensation import prune_to_stage
from condense_core.config import ModelConfig
from condense_core.cost import CostTable, cost_table
from condense_core.deploy import condense
from condense_core.looking import blank_image, evaluating
from condense_core.model import CondenseNet

EXACT = ("conv", "linear")  # the operators that `macs` counts too


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
    """A network under every convention: by its masks, as executed (dense), and condensed."""

    table: CostTable
    masked: Count
    condensed: Count | None

    def rows(self) -> list[tuple[str, int, str]]:
        """Return rows of name, figure and meaning."""
        executed = "masked-dense" if self.condensed else "executed"
        rows = [
            (
                "flops_paper",
                self.table.flops_paper,
                "as in the paper: live MACs of convolutions, ReLUs, pooling, classifier",
            ),
            ("macs", self.table.macs, "live multiply-adds of convolutions and linear layers"),
            (
                f"{executed} macs",
                self.masked.macs,
                "the same as executed: zeros under a mask are multiplied too",
            ),
            (
                f"{executed} fvcore",
                self.masked.total,
                "fvcore's total of that: batch norms and pooling besides",
            ),
        ]
        if self.condensed:
            executed = "condensed"
            rows += [
                (
                    "condensed macs",
                    self.condensed.macs,
                    "multiply-adds of the condensed network, counted by fvcore",
                ),
                (
                    "condensed fvcore",
                    self.condensed.total,
                    "fvcore's total of that: norms after a 1x1 are folded into it",
                ),
            ]
        return [
            *rows,
            (
                f"{executed} torch",
                (self.condensed or self.masked).torch_flops,
                "torch.utils.flop_counter: two for each multiply-add",
            ),
            ("params", self.table.params, "live weights and all other learnable parameters"),
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        counts = {"masked": self.masked, "condensed": self.condensed}
        return {name: figure for name, figure, _ in self.rows()} | {
            f"fvcore_{name}": {"operators": count.operators, "uncounted": count.uncounted}
            for name, count in counts.items()
            if count
        }


def count_conventions(
    network: ModelConfig | nn.Module, stage: int | None = None, image_size: int | None = None
) -> Conventions:
    """Count a live network as its masks are, or a configuration in `stage` (default: the last one).

    Raises ValueError as `cost_table` does, for example if the image size of a foreign network is not given.
    """
    table = cost_table(network, stage, image_size)
    model = pruned_to(network, stage) if isinstance(network, ModelConfig) else network
    size = model.config.image_size if isinstance(model, CondenseNet) else image_size
    assert size is not None  # cost_table asks for it
    try:
        small = condense(model, execution="reference") if isinstance(model, CondenseNet) else None
    except ValueError:  # single weights were pruned
        small = None
    return Conventions(table, count(model, size), count(small, size) if small else None)


def pruned_to(config: ModelConfig, stage: int | None = None) -> CondenseNet:
    """An untrained network with the masks of a stage (default: the last one)."""
    model, last = CondenseNet(config, seed=0), config.last_stage
    prune_to_stage(model, last if stage is None else stage, last)
    return model


def count(model: nn.Module, image_size: int) -> Count:
    """Run one image through `model` and let fvcore and torch count."""
    image = blank_image(model, image_size)
    with evaluating(model):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.jit, which fvcore uses, and of its tracer
            from fvcore.nn import FlopCountAnalysis

            analysis = FlopCountAnalysis(model, image)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            operators, uncounted = analysis.by_operator(), analysis.unsupported_ops()
        with FlopCounterMode(display=False) as counter:
            model(image)
    return Count(_plain(operators), _plain(uncounted), counter.get_total_flops())


def _plain(counter: Counter[str]) -> dict[str, int]:
    return {name: int(number) for name, number in sorted(counter.items())}
