"""Kernels of 3×3 convolutions in groups, on features (images, channels, pixels of an image).

A kernel works on some chunks of images, so that threads can share them. What it reads is gathered into small
padded planes that stay in the cache. The products are `microkernels`, whose registers zero weights fill up.
"""

from __future__ import annotations

import numpy as np

from .compilation import inlined, kernel
from .rows import copy_row, relu_row
from .tiles import dots24, moments, panel2, panel4, plane_size_in_kernel, relu_backward, tap_offsets
from .vectors import LANES, repeat, total


@inlined
def _pad_normalised(x, image, channel, scale, shift, y, images, height, width):  # type: ignore[no-untyped-def]
    """relu(scale · x + shift) of a channel of some images into a plane y, whose borders stay 0."""
    for s in range(images):
        src = x[image + s, channel]
        for r in range(height):
            start = ((height + 2) * s + r + 1) * (width + 2) + 1
            relu_row(src, r * width, scale, shift, y, start, LANES, width, False)


@inlined
def _pad(x, image, channel, y, images, height, width):  # type: ignore[no-untyped-def]
    """A channel of some images into a plane y, whose borders stay 0."""
    for s in range(images):
        src = x[image + s, channel]
        for r in range(height):
            start = ((height + 2) * s + r + 1) * (width + 2) + 1
            copy_row(src, r * width, y, start, LANES, width, False)


@kernel
def spatial(  # type: ignore[no-untyped-def]
    h, norm, weight, outputs, images_per_chunk, height, width, out, out_offset, sums, deviations, first, last
):
    """3×3 convolution in groups, padded by 1, of the normalised input's positive part, and its moments.

    For the chunks of `images_per_chunk` images from `first` to `last`. h (N, I, P), norm (5, I),
    weight (G, M / R, 9·I/G, R) with R = 2 or 4, of which the first `outputs` of each group go to out (N, C, P)
    from channel `out_offset` on; sums, deviations (N, G · outputs).
    """
    groups, registers, entries, rows = weight.shape
    inputs, padded_width = entries // 9, width + 2
    plane = plane_size_in_kernel(images_per_chunk, height, width)
    y = np.zeros((inputs, plane), h.dtype)
    acc = np.empty((registers * rows, plane), h.dtype)
    offsets = tap_offsets(inputs, plane, padded_width, 1)
    flat_y, flat_weight, flat_acc = y.reshape(-1), weight.reshape(-1), acc.reshape(-1)
    for chunk in range(first, last):
        image = chunk * images_per_chunk
        images = min(images_per_chunk, h.shape[0] - image)
        # Padded rows are convolved as one long row: results on borders are computed and not read.
        length = images * (height + 2) * padded_width - 2 * padded_width - 2
        for g in range(groups):
            # Normalise into padded planes, so that taps need no test for the border.
            for i in range(inputs):
                c = g * inputs + i
                _pad_normalised(h, image, c, norm[0, c], norm[1, c], y[i], images, height, width)
            # Multiply by all taps of all inputs in one product, whose sums stay in registers.
            for m in range(registers):
                src = (g * registers + m) * entries * rows
                if rows == 4:
                    for p in range(0, length, LANES):
                        dst = m * 4 * plane + p
                        panel4(flat_y, p, offsets, entries, flat_weight, src, flat_acc, dst, plane)
                else:
                    for p in range(0, length, 2 * LANES):
                        dst = m * 2 * plane + p
                        panel2(flat_y, p, offsets, entries, flat_weight, src, flat_acc, dst, plane)
            # Append the features without borders, and take their moments while they are in the cache.
            for m in range(outputs):
                o = g * outputs + m
                for s in range(images):
                    row = out[image + s, out_offset + o]
                    for r in range(height):
                        start = m * plane + ((height + 2) * s + r) * padded_width
                        copy_row(acc, start, row, r * width, LANES, width, False)
                    moments(row, height * width, sums[image + s], deviations[image + s], o)


@kernel
def spatial_backward(  # type: ignore[no-untyped-def]
    h, norm, weight, dout, out_offset, images_per_chunk, height, width, dy, dweight, dshift, dscale, first, last
):
    """Backward pass of `spatial`: dy (N, I, P) is the gradient of the norm before it, through its ReLU.

    weight (G, I/G / 4, 9·M, 4) is transposed, with the taps in reverse; dout (N, C, P) from channel
    `out_offset` on. dweight (G, M / 2, 9·I/G / 4, 2, 4, 8), whose eight lanes are yet to be summed,
    dshift and dscale (I,) are added to.
    """
    groups, quads, entries, _ = weight.shape
    outputs = entries // 9
    inputs = norm.shape[1] // groups
    pairs, fours = dweight.shape[1], dweight.shape[2]
    padded_width, zero = width + 2, h.dtype.type(0)
    plane = plane_size_in_kernel(images_per_chunk, height, width)
    y = np.zeros((inputs, plane), h.dtype)
    d = np.zeros((2 * pairs, plane), h.dtype)
    acc = np.empty((4 * quads, plane), h.dtype)
    offsets = tap_offsets(inputs, plane, padded_width, 1)  # the 0s at its end are read, their sums are not
    back = tap_offsets(outputs, plane, padded_width, 1)
    flat_y, flat_d, flat_acc = y.reshape(-1), d.reshape(-1), acc.reshape(-1)
    flat_weight, flat_dweight = weight.reshape(-1), dweight.reshape(-1)
    for chunk in range(first, last):
        image = chunk * images_per_chunk
        images = min(images_per_chunk, h.shape[0] - image)
        length = images * (height + 2) * padded_width - 2 * padded_width - 2
        blocks = -(-length // LANES)
        if images < images_per_chunk:  # the last block reaches past these images, to what the chunk before left
            d[:] = 0
        for g in range(groups):
            # Compute the inputs again, and pad the outputs' gradients: zeros drop out of the sums below.
            for i in range(inputs):
                c = g * inputs + i
                _pad_normalised(h, image, c, norm[0, c], norm[1, c], y[i], images, height, width)
            for m in range(outputs):
                _pad(dout, image, out_offset + g * outputs + m, d[m], images, height, width)
            # dweight += d · yᵀ at every tap, for 2 outputs and 4 taps at a time, lane by lane.
            for m in range(pairs):
                for k in range(fours):
                    dst = ((g * pairs + m) * fours + k) * 64
                    dots24(
                        flat_d, 2 * m * plane + padded_width + 1, plane, LANES,
                        flat_y, 0, offsets, 4 * k, LANES, blocks, flat_dweight, dst,
                    )  # fmt: skip
            # The inputs' gradient is a convolution of d with the taps in reverse.
            for q in range(quads):
                src = (g * quads + q) * entries * 4
                for p in range(0, length, LANES):
                    panel4(flat_d, p, back, entries, flat_weight, src, flat_acc, q * 4 * plane + p, plane)
            # Through the ReLU, and to the norm's parameters.
            for i in range(inputs):
                c, sums = g * inputs + i, (repeat(zero), repeat(zero))
                for s in range(images):
                    dz, x = acc[i, (height + 2) * s * padded_width :], h[image + s, c]
                    sums = relu_backward(x, dz, dy[image + s, c], norm, c, height, width, padded_width, sums)
                dshift[c] += total(sums[0])
                dscale[c] += total(sums[1])
