"""Groupings: which inputs each group of a 1×1 convolution reads (paper Sec. 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .table import Names, Table

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Grouping:
    """A way to group the inputs of a 1×1 convolution, by one of two functions.

    `mask(in_channels, groups, kept, draws)` chooses once `kept` inputs for each group: bool (groups,
    in_channels); `draws` is the run's generator. `layer(in_channels, out_channels, groups, condense_factor,
    permute)` makes the layer itself, which is a `LearnedGroupConv` if the grouping is learned.
    """

    help: str
    mask: str | Callable[..., Tensor] = ""
    layer: str | Callable[..., nn.Module] | None = None
    is_learned: bool = False  # it starts dense and is pruned in stages
    single_weights: bool = False  # each output has its own inputs

    def __post_init__(self) -> None:
        if bool(self.mask) == bool(self.layer):
            raise ValueError("grouping: needs exactly one of mask and layer")
        if self.mask and self.is_learned:
            raise ValueError("grouping: a mask is given once; is_learned needs a layer")


HOME, MASKS = "condense_core.grouping", "condense_core.masks"

GIVEN = "given"

GROUPINGS: Table[Grouping] = Table(
    "grouping",
    {
        "learned": Grouping("learned in training", layer=f"{HOME}:LearnedGroupConv", is_learned=True),
        "random": Grouping("drawn at random from the run's seed", mask=f"{MASKS}:random_mask"),
        "independent": Grouping(
            "drawn at random for each group alone, so that some inputs may be read by none",
            mask=f"{MASKS}:independent_mask",
        ),
        "sequential": Grouping("neighbouring inputs", mask=f"{MASKS}:sequential_mask"),
        "unstructured": Grouping(
            "no groups: single weights are pruned",
            layer=f"{HOME}:unstructured",
            is_learned=True,
            single_weights=True,
        ),
        "none": Grouping("one group that reads all inputs (dense)", layer=f"{HOME}:dense"),
        GIVEN: Grouping(  # neighbouring inputs until the run's masks are known
            "taken from another run, in the study `masks`", mask=f"{MASKS}:sequential_mask"
        ),
    },
)
LEARNED = Names(GROUPINGS, lambda entry: entry.is_learned)
SINGLE_WEIGHTS = Names(GROUPINGS, lambda entry: entry.single_weights)


def learns_groups(grouping: str) -> bool:
    """Return whether groups choose their inputs in training, all outputs of a group alike."""
    return grouping in LEARNED and grouping not in SINGLE_WEIGHTS
