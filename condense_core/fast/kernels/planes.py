"""Padded planes: copies of channels with a border of zeros, which a 3×3 convolution reads without asking."""

from __future__ import annotations

import numpy as np

from .compilation import inlined
from .microkernels import LANES


def plane_size(images, rows, width):  # type: ignore[no-untyped-def]
    """Return the numbers of a plane of padded images, with room for the last block to reach past its end."""
    return images * (rows + 2) * (width + 2) + LANES


plane_size_in_kernel = inlined(plane_size)


@inlined
def tap_offsets(inputs, plane, row_stride, pixel_stride):  # type: ignore[no-untyped-def]
    """Return where the nine taps of each input are, from the place of the first one; 0s fill up to fours."""
    offsets = np.zeros(9 * inputs + -9 * inputs % 4, np.int64)
    for i in range(inputs):
        for r in range(3):
            for c in range(3):
                offsets[9 * i + 3 * r + c] = i * plane + r * row_stride + c * pixel_stride
    return offsets


@inlined
def relu_backward(x, dz, dy, norm, channel, dshift, dscale, rows, width, dz_stride):  # type: ignore[no-untyped-def]
    """Take the gradient dz of some rows of z = relu(scale · x + shift) through the ReLU into dy.

    The gradients of the norm's shift and scale, Σdy and Σdy·x̂, are added to dshift and dscale.
    """
    scale, shift, inverse, offset = norm[0, channel], norm[1, channel], norm[2, channel], norm[3, channel]
    zero = x.dtype.type(0)
    shift_sum = scale_sum = zero
    for r in range(rows):
        row, above = x[r * width : (r + 1) * width], dz[r * dz_stride : r * dz_stride + width]
        below = dy[r * width : (r + 1) * width]
        for p in range(width):
            value = above[p] if scale * row[p] + shift > zero else zero
            shift_sum += value
            scale_sum += value * (inverse * row[p] + offset)
            below[p] = value
    dshift[channel] += shift_sum
    dscale[channel] += scale_sum
