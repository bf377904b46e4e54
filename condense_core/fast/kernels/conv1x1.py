"""Kernels of 1×1 convolutions, with the norm and ReLU before them."""

from __future__ import annotations

import numpy as np

from .compilation import inlined, kernel
from .microkernels import LANES
from .tiles import BLOCKS, TILE, _cut, _dots42, _moments, _pack, _panel4, _tile


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
