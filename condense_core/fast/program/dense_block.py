"""A dense block in a program: the kernel calls of its layers, forward and backward.

Pruned connections are not computed. The inputs of the convolutions are computed again in the backward pass
(Pleiss et al. 2017), so that only the features and the results of the 1×1 convolutions are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from condense_core.fast.kernels import conv1x1, norms
from condense_core.fast.layout import Array

from .buffers import Buffers
from .calls import Calls
from .features import Features, Moments, set_up
from .layers import DenseLayer, Norm, Pointwise


class DenseBlock:
    """The layers of a block, which append to its features; in training the results of 1×1s are kept."""

    def __init__(
        self, layers: Sequence[DenseLayer], features: Features, buffers: Buffers, name: str, keeps: bool
    ):
        self._layers, self._features, self._buffers = layers, features, buffers
        shapes = [features.layout.shape(layer.pointwise.out_channels) for layer in layers]
        self._hidden = [
            buffers(f"{name} {number}" if keeps else "hidden", *shape) for number, shape in enumerate(shapes)
        ]

    def forward(self, calls: Calls) -> None:
        """Append the features of every layer."""
        for layer, hidden in zip(self._layers, self._hidden, strict=True):
            self._features.normalise(calls, layer.first)
            moments = pointwise(calls, layer.pointwise, self._features, layer.first, hidden)
            set_up(calls, layer.second, moments, np.empty((2, hidden.shape[1])))
            self._spatial(calls, layer, hidden)

    def backward(self, calls: Calls) -> None:
        """Take the features' gradients to the block's input and to the layers' weights."""
        features, end = self._features, self._features.channels
        is_read = features.all_are_normalised
        for layer, hidden in zip(reversed(self._layers), reversed(self._hidden), strict=True):
            begin = end - layer.spatial.out_channels
            if is_read:
                features.settle(calls, begin, end)
            dy, affine = self._buffers("dy", *hidden.shape), np.empty((3, hidden.shape[1]), hidden.dtype)
            self._spatial_backward(calls, layer, hidden, begin, dy)
            calls.add(
                norms.through_norm, layer.second.affine, layer.second.sums, features.layout.pixels, affine
            )
            pointwise_backward(calls, layer.pointwise, features, layer.first, hidden, dy, affine)
            end, is_read = begin, True
        features.settle(calls, 0, end)

    def _spatial(self, calls: Calls, layer: DenseLayer, hidden: Array) -> None:
        conv, features, layout = layer.spatial, self._features, self._features.layout
        moments = Moments(layout.moment_sizes, conv.out_channels, features.channels, hidden.dtype)
        calls.share(
            layout.conv3x3.spatial, layout.chunks, hidden, layer.second.affine, conv.packed, conv.outputs,
            layout.images_per_chunk, layout.height, layout.width, features.array, moments.begin,
            moments.sums, moments.deviations,
        )  # fmt: skip
        features.append(moments)

    def _spatial_backward(self, calls: Calls, layer: DenseLayer, hidden: Array, begin: int, dy: Array) -> None:
        conv, features, layout, norm = layer.spatial, self._features, self._features.layout, layer.second
        calls.share(
            layout.conv3x3.spatial_backward, layout.chunks, hidden, norm.affine, conv.transposed,
            features.raw, begin, layout.images_per_chunk, layout.height, layout.width, dy,
            summed=(conv.lanes, *norm.sums),
        )  # fmt: skip
        conv.collect(calls)


def pointwise(calls: Calls, conv: Pointwise, features: Features, norm: Norm, out: Array) -> Moments:
    """Convolve the normalised features into `out`; return its moments."""
    layout = features.layout
    moments = Moments(layout.tile_sizes, conv.out_channels, 0, out.dtype)
    calls.share(
        conv1x1.pointwise, len(layout.tile_sizes), features.array, norm.affine, conv.index, conv.packed,
        conv.rows, out, moments.sums, moments.deviations,
    )  # fmt: skip
    return moments


def pointwise_backward(
    calls: Calls, conv: Pointwise, features: Features, norm: Norm, out: Array, dy: Array, affine: Array
) -> None:
    """Take affine[0]·dy + affine[1]·out + affine[2], the gradient of `out`, to features and weights."""
    calls.share(
        conv1x1.pointwise_backward, len(features.layout.tile_sizes), features.array, norm.affine,
        conv.padded_index, conv.transposed, conv.rows, out, dy, affine, features.inner,
        summed=(conv.lanes, *norm.sums),
    )  # fmt: skip
    conv.collect(calls)
    features.add_sums(calls, norm)
