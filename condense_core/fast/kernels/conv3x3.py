"""The kernels of the fast execution, on features that lie as (images, channels, pixels of an image).

A kernel works on some of the tiles or images, so that threads can share it. What it computes is gathered into
small packed arrays that stay in the cache; the products themselves are `microkernels`, whose registers weights
fill with zeros where their number does not.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .compilation import inlined, kernel
from .microkernels import LANES, dots, panel

BLOCKS = 32  # of a tile
TILE = BLOCKS * LANES  # pixels that a 1×1 convolution works on at a time, of one image or of several small ones
_panel4, _panel2 = panel(4), panel(2)
_dots42, _dots24 = dots(4, 2), dots(2, 4)


@inlined
def _moments(row, n, sums, deviations, channel):  # type: ignore[no-untyped-def]
    total = spread = row.dtype.type(0)
    for p in range(n):
        total += row[p]
    mean = row.dtype.type(total / n)
    for p in range(n):
        spread += (row[p] - mean) * (row[p] - mean)
    sums[channel] = total
    deviations[channel] = spread


@kernel
def statistics(x, channels, sums, deviations, first, last):  # type: ignore[no-untyped-def]
    """Of each image, of the first channels of x (N, C, P): the sum, and Σ(x − mean)²."""
    for image in range(first, last):
        for channel in range(channels):
            _moments(x[image, channel], x.shape[2], sums[image], deviations[image], channel)


def cut(area):  # type: ignore[no-untyped-def]
    """How many images of `area` pixels a tile holds, and how many tiles an image fills."""
    return max(1, TILE // area), -(-area // TILE)


def tile_of(tile, each, cuts, images, area):  # type: ignore[no-untyped-def]
    """The first image of a tile, the first pixel in it, how many images, how many pixels of each."""
    image, start = tile // cuts * each, tile % cuts * TILE
    return image, start, min(each, images - image), min(TILE, area - start)


_cut, _tile = inlined(cut), inlined(tile_of)


@lru_cache(maxsize=64)
def tile_sizes(images: int, area: int) -> np.ndarray:
    """The pixels of each tile."""
    each, cuts = cut(area)
    sizes = [tile_of(tile, each, cuts, images, area)[2:] for tile in range(-(-images // each) * cuts)]
    return np.array([count * pixels for count, pixels in sizes])


@inlined
def _pack(x, image, c, start, count, n, scale, shift, z, k):  # type: ignore[no-untyped-def]
    """relu(scale · x + shift) of a channel of a tile into row k of z (blocks, K, LANES), 0 behind it."""
    zero = x.dtype.type(0)
    whole = n // LANES if n % LANES == 0 or count == 1 else 0
    for s in range(count):
        row = x[image + s, c, start : start + n]
        for b in range(whole):
            for lane in range(LANES):
                value = scale * row[b * LANES + lane] + shift
                z[s * whole + b, k, lane] = zero if value < zero else value
        for p in range(whole * LANES, n):
            value = scale * row[p] + shift
            q = s * n + p
            z[q // LANES, k, q % LANES] = zero if value < zero else value
    for q in range(count * n, -(-count * n // LANES) * LANES):
        z[q // LANES, k, q % LANES] = zero


@kernel
def pointwise(x, norm, index, weight, rows, out, sums, deviations, first, last):  # type: ignore[no-untyped-def]
    """1×1 convolution in groups of the normalised input's positive part, and the moments of its result.

    x (N, ≥C, P), norm (5, C): scale and shift of x, then 1/σ, −μ/σ and γ; index (G, K) of the inputs that a
    group reads, weight (G, M / 4, K, 4), rows (G, M) of the outputs in out (N, O, P), −1 for none; sums,
    deviations (tiles, O).
    """
    groups, quads, kept, _ = weight.shape
    z = np.empty((BLOCKS, kept, LANES), x.dtype)
    acc = np.empty((4 * quads, TILE), x.dtype)
    offsets = np.arange(kept) * LANES
    flat_z, flat_weight, flat_acc = z.reshape(-1), weight.reshape(-1), acc.reshape(-1)
    each, cuts = _cut(x.shape[2])
    for tile in range(first, last):
        image, start, count, n = _tile(tile, each, cuts, x.shape[0], x.shape[2])
        for g in range(groups):
            for k in range(kept):
                c = index[g, k]
                _pack(x, image, c, start, count, n, norm[0, c], norm[1, c], z, k)
            for b in range(-(-count * n // LANES)):
                for m in range(quads):
                    own = (g * quads + m) * kept * 4
                    to = m * 4 * TILE + b * LANES
                    _panel4(flat_z, b * kept * LANES, offsets, kept, flat_weight, own, flat_acc, to, TILE)
            for m in range(4 * quads):
                o = rows[g, m]
                if o >= 0:
                    for s in range(count):
                        out[image + s, o, start : start + n] = acc[m, s * n : (s + 1) * n]
                    _moments(acc[m], count * n, sums[tile], deviations[tile], o)


@kernel
def pointwise_backward(  # type: ignore[no-untyped-def]
    x, norm, index, weight, rows, h, dy, affine, inner, dweight, dshift, dscale, first, last
):
    """Backward pass of `pointwise` behind which a batch norm stands.

    The gradient of output o is affine[0, o]·dy + affine[1, o]·h + affine[2, o]. index (G, K), K a multiple
    of 4; weight (G, K / 4, M, 4), inputs and outputs exchanged. What reaches x̂ is added to inner (N, ≥C, P),
    what reaches the weights to dweight (G, K / 2, M / 4, 4, 2, 8), of which eight lanes are yet to be summed,
    the norm's shift and scale to dshift and dscale (C,).
    """
    groups, quads, outputs, _ = weight.shape
    kept = 4 * quads
    z = np.empty((BLOCKS, kept, LANES), x.dtype)
    dh = np.zeros((BLOCKS, outputs, LANES), x.dtype)
    dz = np.empty((4, TILE), x.dtype)
    offsets_z, offsets_h = np.arange(kept) * LANES, np.arange(outputs) * LANES
    flat_z, flat_h, flat_dz = z.reshape(-1), dh.reshape(-1), dz.reshape(-1)
    flat_weight, flat_dweight = weight.reshape(-1), dweight.reshape(-1)
    each, cuts = _cut(x.shape[2])
    for tile in range(first, last):
        image, start, count, n = _tile(tile, each, cuts, x.shape[0], x.shape[2])
        blocks = -(-count * n // LANES)
        for g in range(groups):
            for m in range(outputs):
                o = rows[g, m]
                if o >= 0:
                    a, b, d = affine[0, o], affine[1, o], affine[2, o]
                    _combine(dy, h, image, o, start, count, n, a, b, d, dh, m)
            for k in range(kept):
                c = index[g, k]
                _pack(x, image, c, start, count, n, norm[0, c], norm[1, c], z, k)
            for k in range(0, kept, 2):
                for m in range(0, outputs, 4):
                    to = ((g * (kept // 2) + k // 2) * (outputs // 4) + m // 4) * 64
                    _dots42(
                        flat_h, m * LANES, LANES, outputs * LANES,
                        flat_z, 0, offsets_z, k, kept * LANES, blocks, flat_dweight, to,
                    )  # fmt: skip
            for k in range(0, kept, 4):
                own = (g * quads + k // 4) * outputs * 4
                for b in range(blocks):
                    _panel4(
                        flat_h,
                        b * outputs * LANES,
                        offsets_h,
                        outputs,
                        flat_weight,
                        own,
                        flat_dz,
                        b * LANES,
                        TILE,
                    )
                for j in range(4):
                    c = index[g, k + j]
                    for s in range(count):
                        _behind_norm(
                            x[image + s, c, start : start + n], dz[j, s * n : (s + 1) * n],
                            inner[image + s, c, start : start + n], norm, c, dshift, dscale, n,
                        )  # fmt: skip


@inlined
def _combine(dy, h, image, o, start, count, n, a, b, d, dh, m):  # type: ignore[no-untyped-def]
    """a·dy + b·h + d of an output of a tile into row m of dh (blocks, M, LANES), 0 behind its pixels."""
    if n % LANES == 0:
        whole = n // LANES
        for s in range(count):
            row, own = dy[image + s, o, start : start + n], h[image + s, o, start : start + n]
            for block in range(whole):
                for lane in range(LANES):
                    p = block * LANES + lane
                    dh[s * whole + block, m, lane] = a * row[p] + b * own[p] + d
        return
    for s in range(count):
        row, own = dy[image + s, o, start : start + n], h[image + s, o, start : start + n]
        for p in range(n):
            q = s * n + p
            dh[q // LANES, m, q % LANES] = a * row[p] + b * own[p] + d
    for q in range(count * n, -(-count * n // LANES) * LANES):
        dh[q // LANES, m, q % LANES] = dy.dtype.type(0)


@inlined
def _behind_norm(row, dz, into, norm, channel, dshift, dscale, n):  # type: ignore[no-untyped-def]
    scale, shift = norm[0, channel], norm[1, channel]
    inverse, offset, gamma = norm[2, channel], norm[3, channel], norm[4, channel]
    zero = row.dtype.type(0)
    shift_sum = scale_sum = zero
    for p in range(n):
        value = dz[p] if scale * row[p] + shift > zero else zero
        shift_sum += value
        scale_sum += value * (inverse * row[p] + offset)
        into[p] += gamma * value
    dshift[channel] += shift_sum
    dscale[channel] += scale_sum


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


@kernel
def norm_backward(x, gradient, affine, begin, out, first, last):  # type: ignore[no-untyped-def]
    """Add affine[0]·gradient + affine[1]·x + affine[2] to channels of out, from `begin` on, of some images."""
    for image in range(first, last):
        for channel in range(affine.shape[1]):
            a, b, d = affine[0, channel], affine[1, channel], affine[2, channel]
            own = begin + channel
            row, source, into = x[image, own], gradient[image, own], out[image, own]
            for p in range(len(row)):
                into[p] += a * source[p] + b * row[p] + d


@kernel
def pool(x, out, first, last):  # type: ignore[no-untyped-def]
    """Means of 2×2 pixels of some planes: x (planes, H, W), out (planes, H / 2, W / 2)."""
    quarter = x.dtype.type(0.25)
    for plane in range(first, last):
        for r in range(out.shape[1]):
            above, below, row = x[plane, 2 * r], x[plane, 2 * r + 1], out[plane, r]
            for p in range(out.shape[2]):
                row[p] = (above[2 * p] + above[2 * p + 1] + below[2 * p] + below[2 * p + 1]) * quarter


@kernel
def pool_backward(above, below, first, last):  # type: ignore[no-untyped-def]
    """The gradient of `pool`'s input (planes, H, W) from that of its result."""
    quarter = above.dtype.type(0.25)
    for plane in range(first, last):
        into = below[plane]
        if into.shape[0] % 2 or into.shape[1] % 2:
            into[:] = 0
        for r in range(above.shape[1]):
            row, upper, lower = above[plane, r], into[2 * r], into[2 * r + 1]
            for p in range(above.shape[2]):
                share = quarter * row[p]
                upper[2 * p] = share
                upper[2 * p + 1] = share
                lower[2 * p] = share
                lower[2 * p + 1] = share
