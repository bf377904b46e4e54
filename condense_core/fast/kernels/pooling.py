"""Kernels of average pooling, on features (N, ≥C, H, W, I) with I = 1, or with one image of I side by side."""

from __future__ import annotations

from .compilation import inlined, kernel
from .rows import scale_row
from .vectors import LANES, doubled, fused, load, load_first, repeat, store, store_first


def _pool(x, channels, out, first, last):  # type: ignore[no-untyped-def]
    """Means of 2×2 pixels, for the planes `first` to `last` of N · C: x → out (N, ≥C, H / 2, W / 2, I)."""
    quarter = x.dtype.type(0.25)
    for plane in range(first, last):
        source, target = x[plane // channels, plane % channels], out[plane // channels, plane % channels]
        for r in range(target.shape[0]):
            above, below, row = source[2 * r], source[2 * r + 1], target[r]
            if x.shape[4] == 1:
                for c in range(target.shape[1]):
                    top, bottom = above[2 * c, 0] + above[2 * c + 1, 0], below[2 * c, 0] + below[2 * c + 1, 0]
                    row[c, 0] = (top + bottom) * quarter
            else:
                for c in range(target.shape[1]):
                    for n in range(x.shape[4]):
                        top, bottom = (
                            above[2 * c, n] + above[2 * c + 1, n],
                            below[2 * c, n] + below[2 * c + 1, n],
                        )
                        row[c, n] = (top + bottom) * quarter


pool, pool_in_kernel = kernel(_pool), inlined(_pool)


@kernel
def pool_backward(above, channels, below, first, last):  # type: ignore[no-untyped-def]
    """Spread gradients of the means over the pixels: above (N, ≥C, H / 2, W / 2, I), below (N, ≥C, H, W, I)."""
    quarter, inner = above.dtype.type(0.25), above.shape[4]
    for plane in range(first, last):
        source, target = above[plane // channels, plane % channels], below[plane // channels, plane % channels]
        if target.shape[0] % 2 or target.shape[1] % 2:  # `pool` left out an odd row or column
            target[:] = 0
        for r in range(source.shape[0]):
            row, upper, lower = source[r], target[2 * r], target[2 * r + 1]
            for into in (upper, lower):
                if inner == 1:
                    _spread_row(row, quarter, into)
                else:
                    for c in range(2 * source.shape[1]):
                        scale_row(row, c // 2 * inner, quarter, into, c * inner, inner)


@inlined
def _spread_row(row, factor, out):  # type: ignore[no-untyped-def]
    """Each number of a row, times a factor, into two neighbours of out."""
    scale, zero = repeat(factor), repeat(factor - factor)
    blocks, rest = len(row) // LANES, len(row) % LANES
    for b in range(blocks):
        low, high = doubled(fused(load(row, b * LANES), scale, zero))
        store(low, out, 2 * b * LANES)
        store(high, out, (2 * b + 1) * LANES)
    if rest:
        low, high = doubled(fused(load_first(row, blocks * LANES, rest), scale, zero))
        place = 2 * blocks * LANES
        store_first(low, out, place, min(2 * rest, LANES))
        if 2 * rest > LANES:
            store_first(high, out, place + LANES, 2 * rest - LANES)
