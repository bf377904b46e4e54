"""The 3×3 convolution of the fast execution where images are small: it computes a pixel of many images at once.

Features lie as (channels, pixels, images) here, handed over as (1, channels, pixels · images), which all other
kernels take for one large image. Rows of a few pixels would fill no register, and their borders cost more.
"""

from __future__ import annotations

import numpy as np

from .compilation import inlined, kernel
from .microkernels import LANES
from .tiles import _dots24, _moments, _panel2, _panel4


@inlined
def _places(inputs, plane, wide, each):  # type: ignore[no-untyped-def]
    """Where each input's nine taps lie, behind the place of their first; filled up to fours."""
    offsets = np.zeros(9 * inputs + -9 * inputs % 4, np.int64)
    for i in range(inputs):
        for r in range(3):
            for c in range(3):
                offsets[9 * i + 3 * r + c] = i * plane + (r * wide + c) * each
    return offsets


@inlined
def _pad(x, image, count, scale, shift, y, each, height, width):  # type: ignore[no-untyped-def]
    """relu(scale · x + shift) of a channel of some images into a plane whose borders stay 0."""
    images, zero = len(x) // (height * width), x.dtype.type(0)
    for r in range(height):
        for c in range(width):
            start, at = (r * width + c) * images + image, ((r + 1) * (width + 2) + c + 1) * each
            own, into = x[start : start + count], y[at : at + count]
            for n in range(count):
                value = scale * own[n] + shift
                into[n] = zero if value < zero else value


@inlined
def _pad_as_it_is(x, image, count, y, each, height, width):  # type: ignore[no-untyped-def]
    """A channel of some images into a plane whose borders stay 0."""
    images = len(x) // (height * width)
    for r in range(height):
        for c in range(width):
            start, at = (r * width + c) * images + image, ((r + 1) * (width + 2) + c + 1) * each
            y[at : at + count] = x[start : start + count]


@kernel
def spatial(h, norm, weight, outputs, each, height, width, out, behind, sums, deviations, first, last):  # type: ignore[no-untyped-def]
    """3×3 convolution in groups, padded by 1, of the normalised input's positive part, and its moments.

    h (1, I, P·N), norm (5, I), weight (G, M / R, 9·I/G, R) with R = 2 or 4, of which the first `outputs` of
    each group go to out (1, C, P·N) from channel `behind` on; `each` images, a multiple of 16, are worked on at
    a time. sums, deviations (N / each, G · outputs).
    """
    groups, registers, entries, rows = weight.shape
    area, inputs, wide = height * width, entries // 9, width + 2
    images, plane = h.shape[2] // area, (height + 2) * wide * each
    y, acc = np.zeros((inputs, plane), h.dtype), np.empty((registers * rows, area * each), h.dtype)
    offsets = _places(inputs, plane, wide, each)
    flat_y, flat_weight, flat_acc = y.reshape(-1), weight.reshape(-1), acc.reshape(-1)
    for part in range(first, last):
        image = part * each
        count = min(each, images - image)
        for g in range(groups):
            for i in range(inputs):
                c = g * inputs + i
                _pad(h[0, c], image, count, norm[0, c], norm[1, c], y[i], each, height, width)
            for m in range(registers):
                own = (g * registers + m) * entries * rows
                for r in range(height):
                    for p in range(0, width * each, LANES):
                        at, to = r * wide * each + p, (m * rows * height + r) * width * each + p
                        if rows == 4:
                            _panel4(flat_y, at, offsets, entries, flat_weight, own, flat_acc, to, area * each)
                        else:
                            _panel2(flat_y, at, offsets, entries, flat_weight, own, flat_acc, to, area * each)
            for m in range(outputs):
                o, result = g * outputs + m, acc[m]
                for p in range(area):
                    for n in range(count if count < each else 0):
                        result[p * count + n] = result[p * each + n]
                    start = p * images + image
                    out[0, behind + o, start : start + count] = result[p * count : (p + 1) * count]
                _moments(result, area * count, sums[part], deviations[part], o)


@kernel
def spatial_backward(  # type: ignore[no-untyped-def]
    h, norm, weight, dout, behind, each, height, width, dy, dweight, dshift, dscale, first, last
):
    """Backward pass of `spatial`: dy (1, I, P·N) is what reaches the norm in front, behind its ReLU.

    weight (G, I/G / 4, 9·M, 4) has outputs and inputs exchanged and the taps in reverse; dout (1, C, P·N) from
    channel `behind` on. dweight (G, M / 2, 9·I/G / 4, 2, 4, 8), of which eight lanes are yet to be summed,
    dshift and dscale (I,) are added to.
    """
    groups, quads, entries, _ = weight.shape
    outputs, inputs = entries // 9, norm.shape[1] // groups
    pairs, fours = dweight.shape[1], dweight.shape[2]
    area, wide = height * width, width + 2
    images, plane = h.shape[2] // area, (height + 2) * wide * each
    y, d = np.zeros((inputs, plane), h.dtype), np.zeros((2 * pairs, plane), h.dtype)
    acc = np.empty((4 * quads, area * each), h.dtype)
    offsets, back = _places(inputs, plane, wide, each), _places(outputs, plane, wide, each)
    flat_y, flat_d, flat_acc = y.reshape(-1), d.reshape(-1), acc.reshape(-1)
    flat_weight, flat_dweight = weight.reshape(-1), dweight.reshape(-1)
    blocks = (height * wide - 2) * each // LANES  # from the first pixel to the last, borders between them
    for part in range(first, last):
        image = part * each
        count = min(each, images - image)
        if count < each:
            d[:] = 0
        for g in range(groups):
            for i in range(inputs):
                c = g * inputs + i
                _pad(h[0, c], image, count, norm[0, c], norm[1, c], y[i], each, height, width)
            for m in range(outputs):
                _pad_as_it_is(dout[0, behind + g * outputs + m], image, count, d[m], each, height, width)
            for m in range(pairs):
                for k in range(fours):
                    to = ((g * pairs + m) * fours + k) * 64
                    _dots24(
                        flat_d, 2 * m * plane + (wide + 1) * each, plane, LANES,
                        flat_y, 0, offsets, 4 * k, LANES, blocks, flat_dweight, to,
                    )  # fmt: skip
            for q in range(quads):
                own = (g * quads + q) * entries * 4
                for r in range(height):
                    for p in range(0, width * each, LANES):
                        at, to = r * wide * each + p, (q * 4 * height + r) * width * each + p
                        _panel4(flat_d, at, back, entries, flat_weight, own, flat_acc, to, area * each)
            for i in range(inputs):
                c = g * inputs + i
                for p in range(area):
                    start = p * images + image
                    row, into = h[0, c, start : start + count], dy[0, c, start : start + count]
                    _behind_relu(row, acc[i, p * each : p * each + count], into, norm, c, dshift, dscale)


@inlined
def _behind_relu(row, dz, into, norm, channel, dshift, dscale):  # type: ignore[no-untyped-def]
    scale, shift, inverse, offset = norm[0, channel], norm[1, channel], norm[2, channel], norm[3, channel]
    zero = row.dtype.type(0)
    shift_sum = scale_sum = zero
    for n in range(len(row)):
        value = dz[n] if scale * row[n] + shift > zero else zero
        shift_sum += value
        scale_sum += value * (inverse * row[n] + offset)
        into[n] = value
    dshift[channel] += shift_sum
    dscale[channel] += scale_sum
