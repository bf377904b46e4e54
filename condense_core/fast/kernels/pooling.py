"""Kernels of average pooling."""

from __future__ import annotations

from .compilation import kernel


@kernel
def pool(x, out, first, last):  # type: ignore[no-untyped-def]
    """Means of 2×2 pixels of planes `first` to `last`: x (planes, H, W), out (planes, H / 2, W / 2)."""
    quarter = x.dtype.type(0.25)
    for plane in range(first, last):
        for r in range(out.shape[1]):
            above, below, row = x[plane, 2 * r], x[plane, 2 * r + 1], out[plane, r]
            for p in range(out.shape[2]):
                row[p] = (above[2 * p] + above[2 * p + 1] + below[2 * p] + below[2 * p + 1]) * quarter


@kernel
def pool_backward(above, below, first, last):  # type: ignore[no-untyped-def]
    """Spread the gradient `above` of the means over their pixels: below (planes, H, W)."""
    quarter = above.dtype.type(0.25)
    for plane in range(first, last):
        dst = below[plane]
        if dst.shape[0] % 2 or dst.shape[1] % 2:  # `pool` left out an odd row or column
            dst[:] = 0
        for r in range(above.shape[1]):
            row, upper, lower = above[plane, r], dst[2 * r], dst[2 * r + 1]
            for p in range(above.shape[2]):
                share = quarter * row[p]
                upper[2 * p] = share
                upper[2 * p + 1] = share
                lower[2 * p] = share
                lower[2 * p + 1] = share
