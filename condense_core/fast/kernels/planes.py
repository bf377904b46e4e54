"""Padded planes: copies of channels with a border of zeros, which a 3×3 convolution reads without asking."""

from __future__ import annotations

from functools import partial

import numpy as np

from .compilation import inlined
from .rows import relu_backward_row
from .vectors import LANES


def plane_size(images, rows, width):  # type: ignore[no-untyped-def]
    """Return the numbers of a plane of padded images, with room for the last block to reach past its end."""
    return images * (rows + 2) * (width + 2) + 2 * LANES


plane_size_in_kernel = inlined(plane_size)


@partial(inlined, allocates=True)
def tap_offsets(inputs, plane, row_stride, pixel_stride):  # type: ignore[no-untyped-def]
    """Return where the nine taps of each input are, from the place of the first one; 0s fill up to fours."""
    offsets = np.zeros(9 * inputs + -9 * inputs % 4, np.int64)
    for i in range(inputs):
        for r in range(3):
            for c in range(3):
                offsets[9 * i + 3 * r + c] = i * plane + r * row_stride + c * pixel_stride
    return offsets


@inlined
def relu_backward(x, dz, dy, norm, channel, rows, width, dz_stride, sums):  # type: ignore[no-untyped-def]
    """Take the gradient dz of some rows of z = relu(scale · x + shift) through the ReLU into dy.

    Return the vectors `sums` with Σdy and Σdy·x̂ added, the gradients of the norm's shift and scale.
    """
    for r in range(rows):
        place = r * width
        sums = relu_backward_row(x, place, dz, r * dz_stride, dy, place, norm, channel, False, width, sums)
    return sums
