"""Masked convolutions: which input channels each group of outputs reads (paper Sec. 3.1).

Output channel o belongs to group o mod G, so that the grouped 3×3 convolution after it, whose groups are
contiguous, reads outputs of every group: the paper's permute layer (Sec. 4.1) then costs nothing. Without
`permute` the groups of outputs are contiguous too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import CLASSIFIER_CONDENSE_FACTOR
from .masks import is_mask
from .stages import kept_inputs
from .tables import GROUPINGS, implementation


def weight_mask(mask: Tensor, out_channels: int, permute: bool = True) -> Tensor:
    """Spread a mask (groups, in_channels) over the weight: bool (out_channels, in_channels).

    >>> weight_mask(torch.tensor([[True, True, False], [False, True, True]]), out_channels=4).int()
    tensor([[1, 1, 0],
            [0, 1, 1],
            [1, 1, 0],
            [0, 1, 1]], dtype=torch.int32)
    """
    outputs = out_channels // mask.shape[0]
    return mask.repeat(outputs, 1) if permute else mask.repeat_interleave(outputs, 0)


def grouped(weight: Tensor, groups: int, permute: bool = True) -> Tensor:
    """Sum a weight (out, in, …) over its kernel and split its outputs by group: (out/groups, groups, in)."""
    summed = weight.flatten(2).sum(2) if weight.dim() > 2 else weight
    outputs, in_channels = weight.shape[0] // groups, weight.shape[1]
    if permute:
        return summed.view(outputs, groups, in_channels)
    return summed.view(groups, outputs, in_channels).transpose(0, 1)


class Masked(nn.Module):
    """Layer in which each group of outputs reads the inputs that its mask leaves."""

    mask: Tensor  # bool (groups, inputs)
    weight: Tensor  # (outputs, inputs, …)
    groups: int
    condense_factor: int
    permute: bool
    has_lasso = False

    def give_mask(self, mask: Tensor, condense_factor: int, permute: bool) -> None:
        """Set what a masked layer has beside the weight."""
        self.groups, self.condense_factor, self.permute = len(mask), condense_factor, permute
        self.register_buffer("mask", mask)


class MaskedConv(Masked, nn.Conv2d):
    """Convolution, of 1×1 without bias unless `settings` of `nn.Conv2d` say otherwise.

    This is the reference execution: a dense convolution with the masked weight.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        condense_factor: int,
        mask: Tensor,
        permute: bool = True,
        **settings: Any,
    ):
        super().__init__(inputs, outputs, **{"kernel_size": 1, "bias": False} | settings)
        self.give_mask(mask, condense_factor, permute)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H', W')."""
        weight, padding = self.weight * live_weights(self), self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode), (0, 0)
        return F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation)

    def extra_repr(self) -> str:
        """Channels, groups and condense factor; kernel and stride if they are not 1."""
        sizes = f"{self.in_channels}, {self.out_channels}, groups={self.groups}"
        is_plain = self.kernel_size == self.stride == (1, 1)
        return f"{sizes if is_plain else super().extra_repr()}, condense_factor={self.condense_factor}"


class LearnedGroupConv(MaskedConv):
    """Convolution that starts dense and learns its groups while it is pruned in C−1 stages."""

    has_lasso = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        groups: int,
        condense_factor: int,
        permute: bool = True,
        **settings: Any,
    ):
        mask = torch.ones(groups, inputs, dtype=torch.bool)
        super().__init__(inputs, outputs, condense_factor, mask, permute, **settings)


class UnstructuredConv(LearnedGroupConv):
    """1×1 convolution that loses single weights, the smallest in the whole layer."""

    def __init__(self, in_channels: int, out_channels: int, condense_factor: int):
        super().__init__(in_channels, out_channels, out_channels, condense_factor)


class LearnedGroupLinear(Masked, nn.Linear):
    """Linear layer whose inputs are pruned; as the classifier it has one group and no lasso."""

    def __init__(
        self, inputs: int, outputs: int, condense_factor: int = CLASSIFIER_CONDENSE_FACTOR, groups: int = 1
    ):
        super().__init__(inputs, outputs)
        self.give_mask(torch.ones(groups, inputs, dtype=torch.bool), condense_factor, permute=True)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return F.linear(x, self.weight * live_weights(self), self.bias)

    def extra_repr(self) -> str:
        """Features, groups and condense factor."""
        return f"{super().extra_repr()}, groups={self.groups}, condense_factor={self.condense_factor}"


def live_weights(layer: Masked) -> Tensor:
    """Which weights of a masked layer survive: bool, in the shape of its weight."""
    live = weight_mask(layer.mask, layer.weight.shape[0], layer.permute)
    return live.view(*live.shape, *[1] * (layer.weight.dim() - 2)).expand_as(layer.weight)


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
    return MaskedConv(in_channels, out_channels, condense_factor, mask, permute)


def give_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the mask of every layer that does not learn its own, by the layer's name.

    Raise ValueError if one is missing, or is not one of the layer's size.
    """
    for name, layer in masked_layers(model).items():
        if isinstance(layer, LearnedGroupConv | LearnedGroupLinear):
            continue
        (groups, inputs), kept = layer.mask.shape, int(layer.mask[0].sum())
        if not is_mask(mask := masks.get(name), groups, inputs, kept):
            shape = f"({groups}, {inputs})"
            raise ValueError(f"masks: that of {name} must be bool {shape} with {kept} True in each row")
        layer.mask.copy_(mask)


def dense(in_channels: int, out_channels: int, *_: object) -> nn.Module:
    """Make a 1×1 convolution that reads all inputs."""
    return nn.Conv2d(in_channels, out_channels, 1, bias=False)


def unstructured(inputs: int, outputs: int, _groups: int, condense_factor: int, _permute: bool) -> nn.Module:
    """Make a 1×1 convolution that loses single weights."""
    return UnstructuredConv(inputs, outputs, condense_factor)
