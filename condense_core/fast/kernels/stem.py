"""Kernels of the stem: a 3×3 convolution of the image, as a 1×1 convolution of patches of 27 numbers."""

from __future__ import annotations

import numpy as np

from .compilation import inlined, kernel
from .rows import copy_row
from .tiles import BLOCKS_PER_TILE, TILE, cut_in_kernel, dots42, pack_row, panel4, tile_in_kernel, unpack_row
from .vectors import LANES

PATCH = 27  # numbers: 3 colours of 3×3 pixels


@inlined
def _pack_patches(image, start, pixels, first, stride, width, z):  # type: ignore[no-untyped-def]
    """Patches of some pixels of a padded image (3, H, W, I) into z (blocks, K, LANES), from number `first` on.

    Neighbours in a row of `width` · I numbers are neighbours in a row of the image, unless there is a stride.
    """
    inner = image.shape[3]
    line = width * inner
    for k in range(PATCH):
        channel, r, c = k // 9, k % 9 // 3, k % 3
        p = 0
        while p < pixels:
            row, place = (start + p) // line, (start + p) % line
            source = image[channel, row * stride + r].reshape(-1)[c * inner :]
            count = min(line - place, pixels - p)
            if stride > 1:
                for j in range(count):
                    q, s = first + p + j, place + j
                    z[q // LANES, k, q % LANES] = source[s // inner * stride * inner + s % inner]
            else:
                blocks = count // LANES if (first + p) % LANES == 0 else 0
                dst = ((first + p) // LANES * z.shape[1] + k) * LANES
                copy_row(source, place, z, dst, z.shape[1] * LANES, blocks * LANES, True)
                for j in range(blocks * LANES, count):
                    q = first + p + j
                    z[q // LANES, k, q % LANES] = source[place + j]
            p += count


@inlined
def _pack_tile_of_patches(planes, image, start, images, pixels, stride, width, z):  # type: ignore[no-untyped-def]
    """The patches of a tile into z (blocks, K, LANES), 0 after its pixels."""
    for s in range(images):
        _pack_patches(planes[image + s], start, pixels, s * pixels, stride, width, z)
    for q in range(images * pixels, -(-images * pixels // LANES) * LANES):
        z[q // LANES, :, q % LANES] = 0


@kernel
def stem(planes, stride, width, weight, out, channels, first, last):  # type: ignore[no-untyped-def]
    """3×3 convolution of padded images, for the tiles from `first` to `last`.

    planes (N, 3, H + 2, W + 2, I), weight (1, M / 4, 27, 4), of whose outputs the first `channels` go to
    out (N, ≥C, P), whose rows have `width` · I numbers.
    """
    quads = weight.shape[1]
    z = np.empty((BLOCKS_PER_TILE, PATCH, LANES), out.dtype)
    acc = np.empty((4 * quads, TILE), out.dtype)
    offsets = np.arange(PATCH) * LANES
    flat_z, flat_weight, flat_acc = z.reshape(-1), weight.reshape(-1), acc.reshape(-1)
    images_per_tile, cuts = cut_in_kernel(out.shape[2])
    for tile in range(first, last):
        image, start, images, pixels = tile_in_kernel(tile, images_per_tile, cuts, out.shape[0], out.shape[2])
        _pack_tile_of_patches(planes, image, start, images, pixels, stride, width, z)
        for b in range(-(-images * pixels // LANES)):
            for m in range(quads):
                src, dst = m * PATCH * 4, m * 4 * TILE + b * LANES
                panel4(flat_z, b * PATCH * LANES, offsets, PATCH, flat_weight, src, flat_acc, dst, TILE)
        for o in range(channels):
            unpack_row(acc, o, out, image, o, start, images, pixels)


@kernel
def stem_backward(planes, stride, width, dout, channels, dweight, first, last):  # type: ignore[no-untyped-def]
    """Add the gradient of `stem`'s weights to dweight (1, M / 4, 14, 4, 2, 8); dout (N, ≥C, P)."""
    quads, kept = dweight.shape[1], 2 * dweight.shape[2]
    z = np.zeros((BLOCKS_PER_TILE, kept, LANES), dout.dtype)
    d = np.zeros((BLOCKS_PER_TILE, 4 * quads, LANES), dout.dtype)
    offsets = np.arange(kept) * LANES
    flat_z, flat_d, flat_dweight = z.reshape(-1), d.reshape(-1), dweight.reshape(-1)
    images_per_tile, cuts = cut_in_kernel(dout.shape[2])
    for tile in range(first, last):
        image, start, images, pixels = tile_in_kernel(tile, images_per_tile, cuts, dout.shape[0], dout.shape[2])
        blocks = -(-images * pixels // LANES)
        _pack_tile_of_patches(planes, image, start, images, pixels, stride, width, z)
        for o in range(channels):
            pack_row(dout, image, o, start, images, pixels, d, o)
        for k in range(0, kept, 2):
            for m in range(quads):
                dst = (m * (kept // 2) + k // 2) * 64
                dots42(
                    flat_d, m * 4 * LANES, LANES, 4 * quads * LANES,
                    flat_z, 0, offsets, k, kept * LANES, blocks, flat_dweight, dst,
                )  # fmt: skip
