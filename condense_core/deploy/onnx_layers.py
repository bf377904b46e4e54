"""The convolutions of a condensed network as arrays, in the forms in which an ONNX file can compute them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Array = np.ndarray


@dataclass(frozen=True)
class Form:
    """How a part computes its 1×1 convolutions, and in how many groups its 3×3 ones, filled up with zeros."""

    pointwise: str = "dense"
    groups_3x3: int = 1

    def __str__(self) -> str:
        return f"1×1 {self.pointwise}, 3×3 in {self.groups_3x3}"


@dataclass(frozen=True)
class Pointwise:
    """BN → ReLU → 1×1 in groups.

    inputs, scale, shift (G, K); weight (G, M, K); bias (G, M); places (G, M): the channel of each output.
    """

    inputs: Array
    scale: Array
    shift: Array
    weight: Array
    bias: Array
    places: Array

    def in_form(self, pointwise: str, channels: int) -> Pointwise:
        """Return it as `plan.CHOICES` says, after `channels` inputs.

        It stays grouped if its groups scale the same input differently: it was trained on after condensing.
        """
        if pointwise == "grouped" or not self._scales_alike():
            return self
        return self._as_one_group(np.unique(self.inputs) if pointwise == "union" else np.arange(channels))

    def _scales_alike(self) -> bool:
        _, first, place = np.unique(self.inputs.ravel(), return_index=True, return_inverse=True)
        return all((a.ravel()[first[place]] == a.ravel()).all() for a in (self.scale, self.shift))

    def _as_one_group(self, read: Array) -> Pointwise:
        scale, shift = np.zeros((2, 1, len(read)))
        weight, bias = np.zeros((1, self.places.size, len(read))), np.zeros((1, self.places.size))
        at = np.searchsorted(read, self.inputs)
        scale[0, at], shift[0, at] = self.scale, self.shift
        weight[0, self.places[:, :, None], at[:, None]] = self.weight
        bias[0, self.places] = self.bias
        return replace(
            self, inputs=read[None], scale=scale, shift=shift, weight=weight, bias=bias,
            places=np.arange(self.places.size)[None],
        )  # fmt: skip


def read_pointwise(parts: Mapping[str, Any], norm: str, conv: str) -> Pointwise:
    """Read the 1×1 convolution of a condensed layer or transition, and the batch norm before it."""
    own, before = parts[conv], parts[norm]
    if "norm2" in parts:
        own = fuse_conv_bn_eval(*(copy.deepcopy(part).double().eval() for part in (own, parts["norm2"])))
    inputs = parts["index"].index.cpu().numpy() if "index" in parts else np.arange(own.in_channels)
    places = np.arange(own.out_channels).reshape(own.groups, -1)
    if "shuffle" in parts:
        places = np.arange(own.out_channels).reshape(-1, own.groups).T
    scale, shift = scale_and_shift(before)
    bias = np.zeros(own.out_channels) if own.bias is None else numbers(own.bias)
    shape = own.groups, -1
    return Pointwise(
        inputs.reshape(shape), scale.reshape(shape), shift.reshape(shape),
        numbers(own.weight).reshape(*places.shape, -1), bias.reshape(shape), places,
    )  # fmt: skip


def scale_and_shift(norm: nn.Module) -> tuple[Array, Array]:
    """Return what a batch norm multiplies its input with in evaluation mode, and what it adds."""
    own: Any = norm
    scale = numbers(own.weight) / np.sqrt(numbers(own.running_var) + own.eps)
    return scale, numbers(own.bias) - numbers(own.running_mean) * scale


def numbers(tensor: Tensor) -> Array:
    """Return a tensor's numbers in float64."""
    return tensor.detach().cpu().double().numpy()


def merge_groups(weight: Array, groups: int, merged: int) -> Array:
    """Return the weights (O, I / groups, 3, 3) of a convolution for fewer groups: (O, I / merged, 3, 3)."""
    out_channels, inputs = weight.shape[:2]
    together, outputs = groups // merged, out_channels // groups
    whole = np.zeros((out_channels, inputs * together, *weight.shape[2:]))
    for group in range(groups):
        own = slice(group * outputs, (group + 1) * outputs)
        first = group % together * inputs
        whole[own, first : first + inputs] = weight[own]
    return whole
