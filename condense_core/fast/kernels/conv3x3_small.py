"""Kernels of 3×3 convolutions in groups of small images: they compute a pixel of many images at once.

Features are (channels, pixels, images) here, passed as (1, channels, pixels · images), which all other kernels
take for one large image. Rows of a few pixels would not fill a register, and their borders would cost more.
"""

from __future__ import annotations

import numpy as np

from .compilation import inlined, kernel
from .rows import copy_row, relu_row
from .tiles import dots24, moments, panel2, panel4, relu_backward, tap_offsets
from .vectors import LANES, repeat, total


@inlined
def _pad_normalised(x, image, count, scale, shift, y, images_per_chunk, height, width):  # type: ignore[no-untyped-def]
    """relu(scale · x + shift) of a channel of `count` images into a plane y, whose borders stay 0."""
    images = len(x) // (height * width)
    for r in range(height):
        for c in range(width):
            start, place = (r * width + c) * images + image, ((r + 1) * (width + 2) + c + 1) * images_per_chunk
            relu_row(x, start, scale, shift, y, place, LANES, count, False)


@inlined
def _pad(x, image, count, y, images_per_chunk, height, width):  # type: ignore[no-untyped-def]
    """A channel of `count` images into a plane y, whose borders stay 0."""
    images = len(x) // (height * width)
    for r in range(height):
        for c in range(width):
            start, place = (r * width + c) * images + image, ((r + 1) * (width + 2) + c + 1) * images_per_chunk
            copy_row(x, start, y, place, LANES, count, False)


@kernel
def spatial(  # type: ignore[no-untyped-def]
    h, norm, weight, outputs, images_per_chunk, height, width, out, out_offset, sums, deviations, first, last
):
    """3×3 convolution in groups, padded by 1, of the normalised input's positive part, and its moments.

    For the chunks of `images_per_chunk` images, a multiple of 32, from `first` to `last`. h (1, I, P·N),
    norm (5, I), weight (G, M / R, 9·I/G, R) with R = 2 or 4, of which the first `outputs` of each group go to
    out (1, C, P·N) from channel `out_offset` on; sums, deviations (chunks, G · outputs).
    """
    groups, registers, entries, rows = weight.shape
    area, inputs, padded_width = height * width, entries // 9, width + 2
    images, plane = h.shape[2] // area, (height + 2) * padded_width * images_per_chunk
    y = np.zeros((inputs, plane), h.dtype)
    acc = np.empty((registers * rows, area * images_per_chunk), h.dtype)
    offsets = tap_offsets(inputs, plane, padded_width * images_per_chunk, images_per_chunk)
    flat_y, flat_weight, flat_acc = y.reshape(-1), weight.reshape(-1), acc.reshape(-1)
    for chunk in range(first, last):
        image = chunk * images_per_chunk
        count = min(images_per_chunk, images - image)
        for g in range(groups):
            # Normalise into padded planes, so that taps need no test for the border.
            for i in range(inputs):
                c = g * inputs + i
                _pad_normalised(
                    h[0, c], image, count, norm[0, c], norm[1, c], y[i], images_per_chunk, height, width
                )  # fmt: skip
            # Multiply row by row: a row's pixels of all images of the chunk are adjacent, borders are skipped.
            for m in range(registers):
                weights = (g * registers + m) * entries * rows
                line, stride = width * images_per_chunk, area * images_per_chunk
                for r in range(height):
                    src, dst = r * padded_width * images_per_chunk, m * rows * stride + r * line
                    if rows == 4:
                        for p in range(0, line, LANES):
                            panel4(
                                flat_y, src + p, offsets, entries, flat_weight, weights,
                                flat_acc, dst + p, stride,
                            )  # fmt: skip
                    else:
                        for p in range(0, line, 2 * LANES):
                            panel2(
                                flat_y, src + p, offsets, entries, flat_weight, weights,
                                flat_acc, dst + p, stride,
                            )  # fmt: skip
            # Append the features, and take their moments while they are in the cache.
            for m in range(outputs):
                o, result = g * outputs + m, acc[m]
                for p in range(area):
                    for n in range(count if count < images_per_chunk else 0):  # close the gaps of a last chunk
                        result[p * count + n] = result[p * images_per_chunk + n]
                    dst = (out_offset + o) * out.shape[2] + p * images + image
                    copy_row(result, p * count, out, dst, LANES, count, False)
                moments(result, area * count, sums[chunk], deviations[chunk], o)


@kernel
def spatial_backward(  # type: ignore[no-untyped-def]
    h, norm, weight, dout, out_offset, images_per_chunk, height, width, dy, dweight, dshift, dscale, first, last
):
    """Backward pass of `spatial`: dy (1, I, P·N) is the gradient of the norm before it, through its ReLU.

    weight (G, I/G / 4, 9·M, 4) is transposed, with the taps in reverse; dout (1, C, P·N) from channel
    `out_offset` on. dweight (G, M / 2, 9·I/G / 4, 2, 4, 8), whose eight lanes are yet to be summed,
    dshift and dscale (I,) are added to.
    """
    groups, quads, entries, _ = weight.shape
    outputs, inputs = entries // 9, norm.shape[1] // groups
    pairs, fours = dweight.shape[1], dweight.shape[2]
    area, padded_width, zero = height * width, width + 2, h.dtype.type(0)
    row_stride, acc_stride = padded_width * images_per_chunk, area * images_per_chunk
    images, plane = h.shape[2] // area, (height + 2) * row_stride
    y, d = np.zeros((inputs, plane), h.dtype), np.zeros((2 * pairs, plane), h.dtype)
    acc = np.empty((4 * quads, acc_stride), h.dtype)
    offsets = tap_offsets(inputs, plane, row_stride, images_per_chunk)
    back = tap_offsets(outputs, plane, row_stride, images_per_chunk)
    flat_y, flat_d, flat_acc = y.reshape(-1), d.reshape(-1), acc.reshape(-1)
    flat_weight, flat_dweight = weight.reshape(-1), dweight.reshape(-1)
    blocks = (height * row_stride - 2 * images_per_chunk) // LANES  # first to last pixel, borders too
    for chunk in range(first, last):
        image = chunk * images_per_chunk
        count = min(images_per_chunk, images - image)
        if count < images_per_chunk:  # the chunk before left its further images in the planes
            d[:] = 0
        for g in range(groups):
            # Compute the inputs again, and pad the outputs' gradients: zeros drop out of the sums below.
            for i in range(inputs):
                c = g * inputs + i
                _pad_normalised(
                    h[0, c], image, count, norm[0, c], norm[1, c], y[i], images_per_chunk, height, width
                )  # fmt: skip
            for m in range(outputs):
                o = out_offset + g * outputs + m
                _pad(dout[0, o], image, count, d[m], images_per_chunk, height, width)
            # dweight += d · yᵀ at every tap, for 2 outputs and 4 taps at a time, lane by lane.
            for m in range(pairs):
                for k in range(fours):
                    dst = ((g * pairs + m) * fours + k) * 64
                    dots24(
                        flat_d, 2 * m * plane + row_stride + images_per_chunk, plane, LANES,
                        flat_y, 0, offsets, 4 * k, LANES, blocks, flat_dweight, dst,
                    )  # fmt: skip
            # The inputs' gradient is a convolution of d with the taps in reverse.
            for q in range(quads):
                weights = (g * quads + q) * entries * 4
                for r in range(height):
                    for p in range(0, width * images_per_chunk, LANES):
                        src, dst = r * row_stride + p, (q * 4 * height + r) * width * images_per_chunk + p
                        panel4(flat_d, src, back, entries, flat_weight, weights, flat_acc, dst, acc_stride)
            # Through the ReLU, and to the norm's parameters.
            for i in range(inputs):
                c, sums = g * inputs + i, (repeat(zero), repeat(zero))
                for p in range(area):
                    start = p * images + image
                    x, into = h[0, c, start : start + count], dy[0, c, start : start + count]
                    dz = acc[i, p * images_per_chunk : p * images_per_chunk + count]
                    sums = relu_backward(x, dz, into, norm, c, 1, count, count, sums)
                dshift[c] += total(sums[0])
                dscale[c] += total(sums[1])
