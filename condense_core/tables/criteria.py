"""Criteria: which connections of a learned group convolution are pruned first (paper Sec. 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .table import Names, Table

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Criterion:
    """A ranking of connections: `score(layer, norm, draws)` is (groups, in_channels), the lowest go first.

    `norm` is the batch norm of the layer's inputs, None in networks other than a CondenseNet; `draws` is a
    generator of random numbers.
    """

    help: str
    score: str | Callable[..., Tensor]
    ranks_weights: bool = False  # it can also rank single weights (grouping unstructured)
    reads_norm: bool = False  # it needs `norm`


CRITERIA: Table[Criterion] = Table(
    "criterion",
    {
        "l1": Criterion(
            "the sum of |W| of the group (the paper's)", "condense_core.learning.criteria:l1", True
        ),
        "l2": Criterion(
            "the sum of W² of the group", "condense_core.learning.criteria:l2"
        ),  # of one weight as l1
        "norm-scale": Criterion(
            "|γ| of the batch norm before it (Liu et al. 2017)",
            "condense_core.learning.criteria:norm_scale",
            reads_norm=True,
        ),
        "random": Criterion("a random number", "condense_core.learning.criteria:at_random", True),
    },
)
WEIGHT_CRITERIA = Names(CRITERIA, lambda entry: entry.ranks_weights)
