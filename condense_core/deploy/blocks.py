"""The parts of a condensed network: an index of the surviving inputs, and blocks that kernels can compute."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from condense_core.model import DenseBlock, Transition


class Index(nn.Module):
    """Select channels in the order in which a grouped convolution reads them: (N, in, …) → (N, len, …).

    The channels may lie along another `axis`: −1 for a linear layer, −3 for images with or without a batch.
    """

    index: Tensor  # int64 (len,)

    def __init__(self, index: Tensor, axis: int = 1):
        super().__init__()
        self.axis = axis
        self.register_buffer("index", index)

    def forward(self, x: Tensor) -> Tensor:
        """Gather along the channels."""
        return x.index_select(self.axis, self.index)

    def extra_repr(self) -> str:
        """Return the number of channels, for `repr`."""
        return f"{len(self.index)} channels"


class GroupedLinear(nn.Module):
    """Linear layer in groups, each of which reads its own inputs: (…, in) → (…, out)."""

    def __init__(self, in_features: int, out_features: int, groups: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(groups, out_features // groups, in_features // groups))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Multiply group by group."""
        groups, _, inputs = self.weight.shape
        products = torch.einsum("...gi,goi->...go", x.unflatten(-1, (groups, inputs)), self.weight)
        outputs = products.flatten(-2)
        return outputs if self.bias is None else outputs + self.bias

    def extra_repr(self) -> str:
        """Return the sizes, for `repr`."""
        groups, outputs, inputs = self.weight.shape
        return f"{groups * inputs}, {groups * outputs}, groups={groups}, bias={self.bias is not None}"


class CondensedLayer(nn.Sequential):
    """What replaces a masked layer: an index, the product, and where it is needed the order of its outputs."""

    @property
    def product(self) -> Any:
        """The convolution or linear layer."""
        return next(child for child in self if not isinstance(child, Index))

    @property
    def weight(self) -> Tensor:
        """The weights that are left; networks ask a layer's weight for its device and type."""
        return self.product.weight

    @property
    def bias(self) -> Tensor | None:
        """The biases, in the order of the product."""
        return self.product.bias


class CondensedBlock(DenseBlock):
    """A dense block of condensed layers."""

    engine: Any = None  # torch's modules; `fast.use` gives it another

    def __init__(self, layers: Iterable[nn.Module]):
        nn.Sequential.__init__(self, *layers)

    def forward(self, x: Tensor, choices: Sequence[str] = ()) -> Tensor:
        """(N, in, H, W) → (N, in + layers · growth_rate, H, W).

        By kernels, each layer as chosen for it (see `plan.CHOICES`); without choices by torch's modules.
        """
        if self.engine is not None and (result := self.engine.run(self, x, choices)) is not None:
            return result
        return super().forward(x)


class CondensedTransition(Transition):
    """The condensed layers of a transition: (N, in, H, W) → (N, out_channels, H / 2, W / 2)."""

    engine: Any = None

    def __init__(self, layers: Mapping[str, nn.Module]):
        nn.Sequential.__init__(self, OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        """By kernels, or by torch's modules."""
        if self.engine is not None and (result := self.engine.run(self, x)) is not None:
            return result
        return super().forward(x)
