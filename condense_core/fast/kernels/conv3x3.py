"""The kernels of the fast execution, on features that lie as (images, channels, pixels of an image).

A kernel works on some of the tiles or images, so that threads can share it. What it computes is gathered into
small packed arrays that stay in the cache; the products themselves are `microkernels`, whose registers weights
fill with zeros where their number does not.
"""

from __future__ import annotations

import numpy as np

from .compilation import inlined, kernel
from .microkernels import LANES
from .tiles import _dots24, _moments, _panel2, _panel4


@inlined
def _room(images, height, width):  # type: ignore[no-untyped-def]
    """Numbers of a plane of padded images, with room for the last block to reach beyond."""
    return images * (height + 2) * (width + 2) + LANES


@inlined
def _places(inputs, plane, wide):  # type: ignore[no-untyped-def]
    """Where each input's nine taps lie in its padded planes, behind the place of their first."""
    offsets = np.empty(9 * inputs, np.int64)
    for i in range(inputs):
        for r in range(3):
            for c in range(3):
                offsets[9 * i + 3 * r + c] = i * plane + r * wide + c
    return offsets


@inlined
def _pad(h, image, c, scale, shift, y, images, height, width):  # type: ignore[no-untyped-def]
    """relu(scale · h + shift) of a channel of some images into a plane whose borders stay 0."""
    wide, zero = width + 2, h.dtype.type(0)
    for s in range(images):
        for r in range(height):
            at = ((height + 2) * s + r + 1) * wide + 1
            own, into = h[image + s, c, r * width : (r + 1) * width], y[at : at + width]
            for p in range(width):
                value = scale * own[p] + shift
                into[p] = zero if value < zero else value


@inlined
def _pad_as_it_is(x, image, c, y, images, height, width):  # type: ignore[no-untyped-def]
    """A channel of some images into a plane whose borders stay 0."""
    for s in range(images):
        for r in range(height):
            at = ((height + 2) * s + r + 1) * (width + 2) + 1
            y[at : at + width] = x[image + s, c, r * width : (r + 1) * width]


@kernel
def spatial(h, norm, weight, outputs, each, height, width, out, behind, sums, deviations, first, last):  # type: ignore[no-untyped-def]
    """3×3 convolution in groups, padded by 1, of the normalised input's positive part, and its moments.

    h (N, I, P), norm (5, I), weight (G, M / R, 9·I/G, R) with R = 2 or 4, of which the first `outputs` of each
    group go to out (N, C, P) from channel `behind` on; `each` images are worked on at a time. sums, deviations
    (N, G · outputs).
    """
    groups, registers, entries, rows = weight.shape
    inputs, wide = entries // 9, width + 2
    plane = _room(each, height, width)
    y = np.zeros((inputs, plane), h.dtype)
    acc = np.empty((registers * rows, plane), h.dtype)
    offsets = _places(inputs, plane, wide)
    flat_y, flat_weight, flat_acc = y.reshape(-1), weight.reshape(-1), acc.reshape(-1)
    for part in range(first, last):
        image = part * each
        images = min(each, h.shape[0] - image)
        flat = images * (height + 2) * wide - 2 * wide - 2
        for g in range(groups):
            for i in range(inputs):
                c = g * inputs + i
                _pad(h, image, c, norm[0, c], norm[1, c], y[i], images, height, width)
            for m in range(registers):
                own = (g * registers + m) * entries * rows
                for p in range(0, flat, LANES):
                    if rows == 4:
                        _panel4(
                            flat_y, p, offsets, entries, flat_weight, own, flat_acc, m * 4 * plane + p, plane
                        )
                    else:
                        _panel2(
                            flat_y, p, offsets, entries, flat_weight, own, flat_acc, m * 2 * plane + p, plane
                        )
            for m in range(outputs):
                o = g * outputs + m
                for s in range(images):
                    row = out[image + s, behind + o]
                    for r in range(height):
                        at = ((height + 2) * s + r) * wide
                        row[r * width : (r + 1) * width] = acc[m, at : at + width]
                    _moments(row, height * width, sums[image + s], deviations[image + s], o)


@kernel
def spatial_backward(  # type: ignore[no-untyped-def]
    h, norm, weight, dout, behind, each, height, width, dy, dweight, dshift, dscale, first, last
):
    """Backward pass of `spatial`: dy (N, I, P) is what reaches the norm in front, behind its ReLU.

    weight (G, I/G / 4, 9·M, 4) has outputs and inputs exchanged and the taps in reverse; dout (N, C, P) from
    channel `behind` on. dweight (G, M / 2, 9·I/G / 4, 2, 4, 8), of which eight lanes are yet to be summed,
    dshift and dscale (I,) are added to.
    """
    groups, quads, entries, _ = weight.shape
    outputs = entries // 9
    inputs = norm.shape[1] // groups
    pairs, fours = dweight.shape[1], dweight.shape[2]
    wide = width + 2
    plane = _room(each, height, width)
    y = np.zeros((inputs, plane), h.dtype)
    d = np.zeros((2 * pairs, plane), h.dtype)
    acc = np.empty((4 * quads, plane), h.dtype)
    offsets = np.zeros(4 * fours, np.int64)  # those beyond the inputs' are read, and what comes of it is not
    offsets[: 9 * inputs] = _places(inputs, plane, wide)
    back = _places(outputs, plane, wide)
    flat_y, flat_d, flat_acc = y.reshape(-1), d.reshape(-1), acc.reshape(-1)
    flat_weight, flat_dweight = weight.reshape(-1), dweight.reshape(-1)
    for part in range(first, last):
        image = part * each
        images = min(each, h.shape[0] - image)
        flat = images * (height + 2) * wide - 2 * wide - 2
        blocks = -(-flat // LANES)
        if images < each:
            d[:] = 0
        for g in range(groups):
            for i in range(inputs):
                c = g * inputs + i
                _pad(h, image, c, norm[0, c], norm[1, c], y[i], images, height, width)
            for m in range(outputs):
                _pad_as_it_is(dout, image, behind + g * outputs + m, d[m], images, height, width)
            for m in range(pairs):
                for k in range(fours):
                    to = ((g * pairs + m) * fours + k) * 64
                    _dots24(
                        flat_d, 2 * m * plane + wide + 1, plane, LANES,
                        flat_y, 0, offsets, 4 * k, LANES, blocks, flat_dweight, to,
                    )  # fmt: skip
            for q in range(quads):
                own = (g * quads + q) * entries * 4
                for p in range(0, flat, LANES):
                    _panel4(flat_d, p, back, entries, flat_weight, own, flat_acc, q * 4 * plane + p, plane)
            for i in range(inputs):
                c = g * inputs + i
                for s in range(images):
                    dz, row, into = acc[i, (height + 2) * s * wide :], h[image + s, c], dy[image + s, c]
                    _behind_relu(row, dz, into, norm, c, dshift, dscale, height, width)


@inlined
def _behind_relu(row, dz, into, norm, channel, dshift, dscale, height, width):  # type: ignore[no-untyped-def]
    scale, shift, inverse, offset = norm[0, channel], norm[1, channel], norm[2, channel], norm[3, channel]
    zero = row.dtype.type(0)
    shift_sum = scale_sum = zero
    for r in range(height):
        at = r * (width + 2)
        own, source = row[r * width : (r + 1) * width], dz[at : at + width]
        target = into[r * width : (r + 1) * width]
        for p in range(width):
            value = source[p] if scale * own[p] + shift > zero else zero
            shift_sum += value
            scale_sum += value * (inverse * own[p] + offset)
            target[p] = value
    dshift[channel] += shift_sum
    dscale[channel] += scale_sum
