"""Tiles: the pixels that a 1×1 convolution works on at a time; padded planes: those of a 3×3 convolution."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from .compilation import inlined
from .microkernels import dots, panel
from .rows import copy_row, relu_backward_row, relu_row
from .vectors import LANES

BLOCKS_PER_TILE = 32
TILE = BLOCKS_PER_TILE * LANES  # pixels: of one image, or of several small ones

panel2, panel4 = panel(2, vectors=2), panel(4)
dots24, dots42 = dots(2, 4), dots(4, 2)


def cut(area):  # type: ignore[no-untyped-def]
    """Return how many images of `area` pixels a tile holds, and how many tiles an image fills."""
    return max(1, TILE // area), -(-area // TILE)


def tile_of(tile, images_per_tile, cuts, images, area):  # type: ignore[no-untyped-def]
    """Return a tile's first image, the first pixel in it, its number of images, and of pixels of each."""
    image, start = tile // cuts * images_per_tile, tile % cuts * TILE
    return image, start, min(images_per_tile, images - image), min(TILE, area - start)


cut_in_kernel, tile_in_kernel = inlined(cut), inlined(tile_of)


@lru_cache(maxsize=64)
def tile_sizes(images: int, area: int) -> np.ndarray:
    """Return the number of pixels of each tile."""
    images_per_tile, cuts = cut(area)
    tiles = -(-images // images_per_tile) * cuts
    sizes = [tile_of(tile, images_per_tile, cuts, images, area)[2:] for tile in range(tiles)]
    return np.array([count * pixels for count, pixels in sizes])


@inlined
def moments(row, pixels, sums, deviations, channel):  # type: ignore[no-untyped-def]
    """Σx and Σ(x − mean)² of the first `pixels` of a row; in two passes, so that no digits cancel."""
    total = spread = row.dtype.type(0)
    for p in range(pixels):
        total += row[p]
    mean = row.dtype.type(total / pixels)
    for p in range(pixels):
        spread += (row[p] - mean) * (row[p] - mean)
    sums[channel] = total
    deviations[channel] = spread


@inlined
def place_in(x, image, channel, start):  # type: ignore[no-untyped-def]
    """Return the place of a pixel in x (N, C, P)."""
    return (image * x.shape[1] + channel) * x.shape[2] + start


@inlined
def fits_blocks(images, pixels):  # type: ignore[no-untyped-def]
    """Return whether every image of a tile starts with a block of its own."""
    return images == 1 or pixels % LANES == 0


@inlined
def pack_tile(x, image, channel, start, images, pixels, scale, shift, z, k):  # type: ignore[no-untyped-def]
    """relu(scale · x + shift) of a channel of a tile into row k of z (blocks, K, LANES), 0 after its pixels.

    The rest of the last block is summed up with the weights' gradient, so it must be 0.
    """
    zero, step = x.dtype.type(0), z.shape[1] * LANES
    if fits_blocks(images, pixels):
        for s in range(images):
            dst = s * (pixels // LANES) * step + k * LANES
            relu_row(x, place_in(x, image + s, channel, start), scale, shift, z, dst, step, pixels, True)
        return
    for s in range(images):
        row = x[image + s, channel, start : start + pixels]
        for p in range(pixels):
            value = scale * row[p] + shift
            q = s * pixels + p
            z[q // LANES, k, q % LANES] = zero if value < zero else value  # NaN stays NaN
    for q in range(images * pixels, -(-images * pixels // LANES) * LANES):
        z[q // LANES, k, q % LANES] = zero


@inlined
def pack_row(x, image, channel, start, images, pixels, z, k):  # type: ignore[no-untyped-def]
    """A channel of a tile into row k of z (blocks, K, LANES), 0 after its pixels."""
    step = z.shape[1] * LANES
    if fits_blocks(images, pixels):
        for s in range(images):
            dst = s * (pixels // LANES) * step + k * LANES
            copy_row(x, place_in(x, image + s, channel, start), z, dst, step, pixels, True)
        return
    for s in range(images):
        row = x[image + s, channel, start : start + pixels]
        for p in range(pixels):
            q = s * pixels + p
            z[q // LANES, k, q % LANES] = row[p]
    for q in range(images * pixels, -(-images * pixels // LANES) * LANES):
        z[q // LANES, k, q % LANES] = x.dtype.type(0)


@inlined
def unpack_row(acc, row, out, image, channel, start, images, pixels):  # type: ignore[no-untyped-def]
    """A row of acc (M, TILE) into a channel of the images of a tile."""
    for s in range(images):
        dst = place_in(out, image + s, channel, start)
        copy_row(acc, row * TILE + s * pixels, out, dst, LANES, pixels, False)


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
