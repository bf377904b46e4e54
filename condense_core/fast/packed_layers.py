"""The layers of a block as kernels take them: their tensors as arrays, and the inputs that each group reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from condense_core.grouping import MaskedConv1x1, live_weights

from .kernels import norms, packing
from .layout import Array


class Norm:
    """A batch norm, as arrays that share its tensors' memory."""

    def __init__(self, norm: Any):
        self.module = norm
        self.gamma, self.beta = norm.weight.detach().numpy(), norm.bias.detach().numpy()
        self.running = norm.running_mean.numpy(), norm.running_var.numpy()
        self.tracked = norm.num_batches_tracked.numpy()

    def __call__(self, statistics: Array | None, pixels: int) -> Array:
        """Return it as kernels read it, (5, C): scale and shift of its input x, then 1/σ, −μ/σ and γ.

        With a batch's mean and variance (2, C), which it tracks, or with its running statistics.
        """
        if statistics is not None:
            norms.track(*statistics, pixels, self.module.momentum, *self.running)
            self.tracked += 1
        mean, variance = self.running if statistics is None else statistics
        norm = np.empty((5, len(self.gamma)), self.gamma.dtype)
        norms.scale_and_shift(mean, variance, self.module.eps, self.gamma, self.beta, norm)
        return norm


class Pointwise:
    """A 1×1 convolution: the inputs and outputs of each group; one group if nothing is pruned by groups."""

    def __init__(self, conv: nn.Module):
        assert isinstance(conv, MaskedConv1x1 | nn.Conv2d)
        index, rows = np.arange(conv.in_channels)[None], np.arange(conv.out_channels)[None]
        self.live: Array | None = None  # mask of the weights, if single ones are pruned
        if isinstance(conv, MaskedConv1x1) and not conv.mask.all():
            if len(conv.mask.sum(1).unique()) > 1:
                self.live = live_weights(conv).flatten(1).numpy()
            else:
                index = conv.mask.nonzero()[:, 1].view(conv.groups, -1).numpy()
                rows = np.arange(conv.out_channels).reshape(-1, conv.groups).T
                if not conv.permute:
                    rows = np.arange(conv.out_channels).reshape(conv.groups, -1)
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.weight = conv.weight.detach().numpy()
        self.index, self.padded_index = np.ascontiguousarray(index), _padded(index, 0)
        self.rows = _padded(rows, -1)
        self.groups, self.outputs = self.rows.shape
        self.inputs = self.padded_index.shape[1]

    def _live_weight(self) -> Array:
        weight = self.weight.reshape(self.out_channels, -1)
        return weight if self.live is None else weight * self.live

    def packed(self) -> Array:
        """Pack the live weights as `pointwise` reads them."""
        packed = np.empty((self.groups, self.outputs // 4, self.index.shape[1], 4), self.weight.dtype)
        packing.pack(self._live_weight(), self.rows, self.index, packed)
        return packed

    def transposed(self) -> Array:
        """Pack them as `pointwise_backward` reads them."""
        packed = np.empty((self.groups, self.inputs // 4, self.outputs, 4), self.weight.dtype)
        packing.pack_transposed(self._live_weight(), self.rows, self.index, packed)
        return packed

    def gradient_buffer(self) -> Array:
        """Return zeros for `pointwise_backward` to add the gradient of the weights to."""
        return np.zeros((self.groups, self.inputs // 2, self.outputs // 4, 4, 2, 8), self.weight.dtype)

    def gradient(self, lanes: Array) -> Tensor:
        """Return the gradient of the weights from the sums of `pointwise_backward`; 0 for pruned weights."""
        gradient = np.empty_like(self.weight)
        flat = gradient.reshape(self.out_channels, -1)
        packing.unpack(lanes, self.rows, self.index, flat)
        if self.live is not None:
            flat *= self.live
        return torch.from_numpy(gradient)


def _padded(array: Array, value: int) -> Array:
    """Fill up the last axis to a multiple of 4."""
    return np.pad(array, [(0, 0), (0, -array.shape[1] % 4)], constant_values=value)


class Spatial:
    """A 3×3 convolution in groups."""

    def __init__(self, conv: Any):
        self.weight = conv.weight.detach().numpy()
        self.groups, self.out_channels = conv.groups, conv.out_channels
        self.outputs, self.inputs = conv.out_channels // conv.groups, conv.in_channels // conv.groups

    def packed(self) -> Array:
        """Pack the weights as `spatial` reads them; few outputs fill registers of 2 rows, not 4."""
        rows = 2 if self.outputs <= 2 else 4
        packed = np.empty((self.groups, -(-self.outputs // rows), 9 * self.inputs, rows), self.weight.dtype)
        packing.pack_taps(self.weight, packed)
        return packed

    def transposed(self) -> Array:
        """Pack them as `spatial_backward` reads them."""
        packed = np.empty((self.groups, -(-self.inputs // 4), 9 * self.outputs, 4), self.weight.dtype)
        packing.pack_taps_transposed(self.weight, packed)
        return packed

    def gradient_buffer(self) -> Array:
        """Return zeros for `spatial_backward` to add the gradient of the weights to."""
        shape = self.groups, -(-self.outputs // 2), -(-9 * self.inputs // 4), 2, 4, 8
        return np.zeros(shape, self.weight.dtype)

    def gradient(self, lanes: Array) -> Tensor:
        """Return the gradient of the weights from the sums of `spatial_backward`."""
        gradient = np.empty_like(self.weight)
        packing.unpack_taps(lanes, gradient)
        return torch.from_numpy(gradient)


class Layer:
    """A dense layer: batch norm, 1×1 convolution, batch norm, 3×3 convolution."""

    def __init__(self, modules: dict[str, Any]):
        self.first, self.second = Norm(modules["norm1"]), Norm(modules["norm2"])
        self.pointwise, self.spatial = Pointwise(modules["conv1"]), Spatial(modules["conv2"])


def state_of(layers: list[dict[str, Any]]) -> list[int]:
    """Return the places of all tensors of the layers, and the versions of their masks: `Layer` reads these."""
    state: list[int] = []
    for layer in layers:
        for part in layer.values():
            for tensors in (part._parameters, part._buffers):
                state += [tensor.data_ptr() for tensor in tensors.values() if tensor is not None]
        if "mask" in layer["conv1"]._buffers:
            state.append(layer["conv1"]._buffers["mask"]._version)
    return state
