"""The parts of a condensed network: an index of the surviving inputs, and blocks that kernels can compute."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from condense_core.model import DenseBlock, Transition


class Index(nn.Module):
    """Select channels in the order in which a grouped convolution reads them: (N, in, …) → (N, len, …)."""

    index: Tensor  # int64 (len,)

    def __init__(self, index: Tensor):
        super().__init__()
        self.register_buffer("index", index)

    def forward(self, x: Tensor) -> Tensor:
        """Gather along the channels."""
        return x.index_select(1, self.index)

    def extra_repr(self) -> str:
        """Return the number of channels, for `repr`."""
        return f"{len(self.index)} channels"


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
