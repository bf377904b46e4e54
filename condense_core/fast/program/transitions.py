"""Transitions in a program: average pooling, after a 1×1 convolution if they compress."""

from __future__ import annotations

import numpy as np

from condense_core.fast.kernels import pooling
from condense_core.fast.layout import Array, Layout

from .buffers import Buffers
from .calls import Calls
from .dense_block import pointwise, pointwise_backward
from .features import Features
from .layers import Compression


class Pooling:
    """All features of a block, pooled, are the first ones of the next block."""

    def __init__(self, before: Features, after: Features, buffers: Buffers):
        self._before, self._after, self._buffers = before, after, buffers

    def forward(self, calls: Calls) -> None:
        """Write the first features of the next block."""
        pool(calls, self._before.layout, self._before.array, self._before.channels, self._after, self._buffers)

    def backward(self, calls: Calls) -> None:
        """Write the gradient of the features of the block before."""
        before = self._before
        before.clear(calls, raw=False)
        pool_backward(calls, self._after, before.layout, before.raw, before.channels, self._buffers)


class Compressing:
    """A norm and a 1×1 convolution of all features, pooled, make the first features of the next block."""

    def __init__(self, layers: Compression, before: Features, after: Features, buffers: Buffers):
        self._layers, self._before, self._after, self._buffers = layers, before, after, buffers
        shape = before.layout.shape(layers.pointwise.out_channels)
        self._out, self._dout = buffers("compressed", *shape), buffers("compressed gradient", *shape)

    def forward(self, calls: Calls) -> None:
        """Write the first features of the next block."""
        own, before = self._layers, self._before
        before.normalise(calls, own.norm)
        pointwise(calls, own.pointwise, before, own.norm, self._out)
        pool(calls, before.layout, self._out, self._out.shape[1], self._after, self._buffers)

    def backward(self, calls: Calls) -> None:
        """Take the gradient to the features of the block before, and to the weights."""
        own, before, channels = self._layers, self._before, self._out.shape[1]
        before.clear(calls)
        pool_backward(calls, self._after, before.layout, self._dout, channels, self._buffers)
        affine = np.zeros((3, channels), self._out.dtype)  # no norm follows
        affine[0] = 1
        pointwise_backward(calls, own.pointwise, before, own.norm, self._out, self._dout, affine)


def pool(calls: Calls, layout: Layout, x: Array, channels: int, after: Features, buffers: Buffers) -> None:
    """Pool channels of `x` into the first ones of `after`."""
    target = after.layout
    if target.by_pixel == layout.by_pixel:
        out, images = target.pixels_of(after.array), len(x)
        calls.share(pooling.pool, images * channels, layout.pixels_of(x), channels, out)
    else:
        by_image = buffers("pooled", target.images, channels, target.height, target.width, 1)
        calls.share(pooling.pool, len(x) * channels, layout.pixels_of(x), channels, by_image)
        calls.add(np.copyto, target.images_of(after.array)[:, :channels], by_image[..., 0])
    after.take_moments(calls, channels)


def pool_backward(
    calls: Calls, after: Features, layout: Layout, below: Array, channels: int, buffers: Buffers
) -> None:
    """Write the gradients of channels that `pool` has pooled."""
    target = after.layout
    above = target.pixels_of(after.raw)
    if target.by_pixel != layout.by_pixel:
        above = buffers("pooled", target.images, channels, target.height, target.width, 1)
        calls.add(np.copyto, above[..., 0], target.images_of(after.raw)[:, :channels])
    calls.share(pooling.pool_backward, len(below) * channels, above, channels, layout.pixels_of(below))
