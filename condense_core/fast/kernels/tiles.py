"""Tiles of pixels, and the small matrix products that kernels do on them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .compilation import inlined
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
