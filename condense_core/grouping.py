"""The 1×1 convolutions: which input channels each group of outputs reads (paper Sec. 3.1).

Output channel o belongs to group o mod G, so that the grouped 3×3 convolution after it, whose groups are
contiguous, reads outputs of every group: the paper's permute layer (Sec. 4.1) then costs nothing. Without
`permute` the groups of outputs are contiguous too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import CLASSIFIER_CONDENSE_FACTOR
from .stages import kept_inputs
from .tables import GROUPINGS, implementation


def sequential_mask(in_channels: int, groups: int, kept: int, *_: object) -> Tensor:
    """Group g reads `kept` consecutive inputs from floor(g·I/G), wrapping round: bool (groups, in_channels).

    >>> sequential_mask(in_channels=4, groups=2, kept=2).int()
    tensor([[1, 1, 0, 0],
            [0, 0, 1, 1]], dtype=torch.int32)
    """
    start = torch.arange(groups) * in_channels // groups
    index = (start[:, None] + torch.arange(kept)) % in_channels
    return torch.zeros(groups, in_channels, dtype=torch.bool).scatter_(1, index, True)


def random_mask(in_channels: int, groups: int, kept: int, generator: torch.Generator) -> Tensor:
    """`sequential_mask` on a random permutation of the inputs: bool (groups, in_channels).

    >>> mask = random_mask(4, groups=2, kept=2, generator=torch.Generator().manual_seed(0))
    >>> mask.sum(1)  # each group reads two inputs
    tensor([2, 2])
    """
    order = torch.randperm(in_channels, generator=generator)
    return sequential_mask(in_channels, groups, kept)[:, order]


def independent_mask(in_channels: int, groups: int, kept: int, generator: torch.Generator) -> Tensor:
    """Each group draws its inputs alone, so that some may be read by no group: bool (groups, in_channels)."""
    return torch.stack([torch.randperm(in_channels, generator=generator) < kept for _ in range(groups)])


def weight_mask(mask: Tensor, out_channels: int, permute: bool = True) -> Tensor:
    """Spread a mask (groups, in_channels) over the weight: bool (out_channels, in_channels)."""
    outputs = out_channels // mask.shape[0]
    return mask.repeat(outputs, 1) if permute else mask.repeat_interleave(outputs, 0)


def grouped(weight: Tensor, groups: int, permute: bool = True) -> Tensor:
    """Split the outputs of a weight (out, in, …) by group: (out/groups, groups, in)."""
    outputs, in_channels = weight.shape[0] // groups, weight.shape[1]
    if permute:
        return weight.view(outputs, groups, in_channels)
    return weight.view(groups, outputs, in_channels).transpose(0, 1)


class MaskedConv1x1(nn.Module):
    """1×1 convolution, no bias, in which each group reads the inputs that its mask leaves.

    This is the reference execution: a dense convolution with the masked weight.
    """

    mask: Tensor  # bool (groups, in_channels)

    def __init__(
        self, in_channels: int, out_channels: int, condense_factor: int, mask: Tensor, permute: bool = True
    ):
        super().__init__()
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, len(mask)
        self.condense_factor, self.permute = condense_factor, permute
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1, 1))
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H, W)."""
        return F.conv2d(x, self.weight * live_weights(self))

    def extra_repr(self) -> str:
        """Channels, groups and condense factor."""
        sizes = f"{self.in_channels}, {self.out_channels}"
        return f"{sizes}, groups={self.groups}, condense_factor={self.condense_factor}"


class LearnedGroupConv(MaskedConv1x1):
    """1×1 convolution that starts dense and learns its groups while it is pruned in C−1 stages."""

    def __init__(
        self, in_channels: int, out_channels: int, groups: int, condense_factor: int, permute: bool = True
    ):
        mask = torch.ones(groups, in_channels, dtype=torch.bool)
        super().__init__(in_channels, out_channels, condense_factor, mask, permute)


class UnstructuredConv(LearnedGroupConv):
    """1×1 convolution that loses single weights, the smallest in the whole layer."""

    def __init__(self, in_channels: int, out_channels: int, condense_factor: int):
        super().__init__(in_channels, out_channels, out_channels, condense_factor)


class LearnedGroupLinear(nn.Linear):
    """Linear layer whose inputs are pruned like those of a learned group convolution with G = 1."""

    mask: Tensor  # bool (1, in_features)

    def __init__(self, in_features: int, out_features: int, condense_factor: int = CLASSIFIER_CONDENSE_FACTOR):
        super().__init__(in_features, out_features)
        self.groups, self.condense_factor, self.permute = 1, condense_factor, True
        self.register_buffer("mask", torch.ones(1, in_features, dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in) → (N, out)."""
        return F.linear(x, self.weight * self.mask, self.bias)


Masked = MaskedConv1x1 | LearnedGroupLinear


def live_weights(layer: Masked) -> Tensor:
    """Which weights of a masked layer survive: bool, in the shape of its weight."""
    return weight_mask(layer.mask, layer.weight.shape[0], layer.permute).view_as(layer.weight)


def masked_layers(model: nn.Module) -> dict[str, Masked]:
    """Every masked layer of `model`, by name, in the order of the network."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Masked)}


def conv1x1(
    in_channels: int,
    out_channels: int,
    grouping: str,
    groups: int,
    condense_factor: int,
    generator: torch.Generator,
    permute: bool = True,
) -> nn.Module:
    """Make the 1×1 convolution of a variant; `generator` makes the random choices of the grouping."""
    entry = GROUPINGS[grouping]
    if entry.layer is not None:
        layer = implementation(entry.layer)(in_channels, out_channels, groups, condense_factor, permute)
        if isinstance(layer, LearnedGroupConv) != entry.is_learned:
            kind = type(layer).__name__
            raise ValueError(
                f"grouping {grouping!r}: is_learned is {entry.is_learned}, but its layer is a {kind}"
            )
        return layer
    kept = kept_inputs(in_channels, condense_factor, condense_factor - 1)
    mask = implementation(entry.mask)(in_channels, groups, kept, generator)
    if not is_mask(mask, groups, in_channels, kept):
        shape = f"({groups}, {in_channels})"
        raise ValueError(f"grouping {grouping!r}: mask must be bool {shape} with {kept} True in each row")
    return MaskedConv1x1(in_channels, out_channels, condense_factor, mask, permute)


def is_mask(mask: object, groups: int, in_channels: int, kept: int) -> bool:
    """Return whether `mask` is bool (groups, in_channels) with `kept` inputs in each group."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (groups, in_channels):
        return False
    return bool((mask.sum(1) == kept).all())


def dense(in_channels: int, out_channels: int, *_: object) -> nn.Module:
    """Make a 1×1 convolution that reads all inputs."""
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


def unstructured(inputs: int, outputs: int, _groups: int, condense_factor: int, _permute: bool) -> nn.Module:
    """Make a 1×1 convolution that loses single weights."""
    return UnstructuredConv(inputs, outputs, condense_factor)
