"""Kernels of 1×1 convolutions in groups, with the norm and ReLU before them."""

from __future__ import annotations

import numpy as np

from .compilation import inlined, kernel
from .rows import affine_row, relu_backward_row
from .tiles import (
    BLOCKS_PER_TILE,
    TILE,
    cut_in_kernel,
    dots42,
    fits_blocks,
    moments,
    pack_tile,
    panel4,
    place_in,
    tile_in_kernel,
    unpack_row,
)
from .vectors import LANES, repeat, total


@kernel
def pointwise(x, norm, index, weight, rows, out, sums, deviations, first, last):  # type: ignore[no-untyped-def]
    """1×1 convolution in groups of the normalised input's positive part, and the moments of its result.

    For the tiles from `first` to `last`. x (N, ≥C, P), norm (5, C): scale and shift of x, then 1/σ, −μ/σ and γ;
    index (G, K) of the inputs that a group reads, weight (G, M / 4, K, 4), rows (G, M) of the outputs in
    out (N, O, P), −1 for none; sums, deviations (tiles, O).
    """
    groups, quads, kept, _ = weight.shape
    z = np.empty((BLOCKS_PER_TILE, kept, LANES), x.dtype)
    acc = np.empty((4 * quads, TILE), x.dtype)
    offsets = np.arange(kept) * LANES
    flat_z, flat_weight, flat_acc = z.reshape(-1), weight.reshape(-1), acc.reshape(-1)
    images_per_tile, cuts = cut_in_kernel(x.shape[2])
    for tile in range(first, last):
        image, start, images, pixels = tile_in_kernel(tile, images_per_tile, cuts, x.shape[0], x.shape[2])
        for g in range(groups):
            # Gather only what the group reads: pruned connections cost nothing.
            for k in range(kept):
                c = index[g, k]
                pack_tile(x, image, c, start, images, pixels, norm[0, c], norm[1, c], z, k)
            # Multiply 4 outputs by 16 pixels at a time: a block of z is read from the cache by all outputs.
            for b in range(-(-images * pixels // LANES)):
                for m in range(quads):
                    src, dst = (g * quads + m) * kept * 4, m * 4 * TILE + b * LANES
                    panel4(flat_z, b * kept * LANES, offsets, kept, flat_weight, src, flat_acc, dst, TILE)
            # Scatter the outputs, and take their moments while they are in the cache.
            for m in range(4 * quads):
                o = rows[g, m]
                if o >= 0:
                    unpack_row(acc, m, out, image, o, start, images, pixels)
                    moments(acc[m], images * pixels, sums[tile], deviations[tile], o)


@kernel
def pointwise_backward(  # type: ignore[no-untyped-def]
    x, norm, index, weight, rows, h, dy, affine, inner, dweight, dshift, dscale, first, last
):
    """Backward pass of `pointwise` and of the batch norm after it.

    The gradient of output o is affine[0, o]·dy + affine[1, o]·h + affine[2, o]. index (G, K), K a multiple
    of 4; weight (G, K / 4, M, 4), transposed. The gradient of x̂ is added to inner (N, ≥C, P), that of
    the weights to dweight (G, M / 4, K / 2, 4, 2, 8), whose eight lanes are yet to be summed, and that of the
    norm's shift and scale to dshift and dscale (C,).
    """
    groups, quads, outputs, _ = weight.shape
    kept, zero = 4 * quads, x.dtype.type(0)
    z = np.empty((BLOCKS_PER_TILE, kept, LANES), x.dtype)
    dh = np.zeros((BLOCKS_PER_TILE, outputs, LANES), x.dtype)
    dz = np.empty((4, TILE), x.dtype)
    offsets_z, offsets_h = np.arange(kept) * LANES, np.arange(outputs) * LANES
    flat_z, flat_h, flat_dz = z.reshape(-1), dh.reshape(-1), dz.reshape(-1)
    flat_weight, flat_dweight = weight.reshape(-1), dweight.reshape(-1)
    images_per_tile, cuts = cut_in_kernel(x.shape[2])
    for tile in range(first, last):
        image, start, images, pixels = tile_in_kernel(tile, images_per_tile, cuts, x.shape[0], x.shape[2])
        blocks = -(-images * pixels // LANES)
        for g in range(groups):
            # dh: take the gradient of the normalised outputs through the norm, to the raw ones; −1 stays 0.
            for m in range(outputs):
                o = rows[g, m]
                if o >= 0:
                    a, b, d = affine[0, o], affine[1, o], affine[2, o]
                    _pack_gradient(dy, h, image, o, start, images, pixels, a, b, d, dh, m)
            # z: compute the inputs again, which costs less than to keep them since the forward pass.
            for k in range(kept):
                c = index[g, k]
                pack_tile(x, image, c, start, images, pixels, norm[0, c], norm[1, c], z, k)
            # dweight += dh · zᵀ, for 4 outputs and 2 inputs at a time, lane by lane.
            for k in range(0, kept, 2):
                for m in range(0, outputs, 4):
                    dst = ((g * (outputs // 4) + m // 4) * (kept // 2) + k // 2) * 64
                    dots42(
                        flat_h, m * LANES, LANES, outputs * LANES,
                        flat_z, 0, offsets_z, k, kept * LANES, blocks, flat_dweight, dst,
                    )  # fmt: skip
            # dz = weightᵀ · dh, for 4 inputs at a time; then through the ReLU and to the norm's parameters.
            for k in range(0, kept, 4):
                src = (g * quads + k // 4) * outputs * 4
                for b in range(blocks):
                    panel4(
                        flat_h, b * outputs * LANES, offsets_h, outputs, flat_weight, src,
                        flat_dz, b * LANES, TILE,
                    )  # fmt: skip
                for j in range(4):
                    c = index[g, k + j]
                    sums = repeat(zero), repeat(zero)
                    for s in range(images):
                        src, dst = place_in(x, image + s, c, start), place_in(inner, image + s, c, start)
                        above = j * TILE + s * pixels
                        sums = relu_backward_row(
                            x, src, dz, above, inner, dst, norm, c, True, pixels, sums
                        )  # fmt: skip
                    dshift[c] += total(sums[0])
                    dscale[c] += total(sums[1])


@inlined
def _pack_gradient(dy, h, image, o, start, images, pixels, a, b, d, dh, m):  # type: ignore[no-untyped-def]
    """a·dy + b·h + d of an output of a tile into row m of dh (blocks, M, LANES), 0 after its pixels."""
    step = dh.shape[1] * LANES
    if fits_blocks(images, pixels):
        for s in range(images):
            src, dst = place_in(h, image + s, o, start), s * (pixels // LANES) * step + m * LANES
            affine_row(dy, h, src, a, b, d, dh, dst, step, pixels)
        return
    for s in range(images):
        above, row = dy[image + s, o, start : start + pixels], h[image + s, o, start : start + pixels]
        for p in range(pixels):
            q = s * pixels + p
            dh[q // LANES, m, q % LANES] = a * above[p] + b * row[p] + d
    for q in range(images * pixels, -(-images * pixels // LANES) * LANES):
        dh[q // LANES, m, q % LANES] = dy.dtype.type(0)
