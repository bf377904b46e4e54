"""Steps over the numbers of a row, a vector at a time; `src` and `dst` are places of arrays, see `vectors`.

Blocks of 16 numbers go to places that are `step` apart. If it `fills`, zeros fill up the last block; otherwise
nothing is written after the row.
"""

from __future__ import annotations

from .compilation import inlined
from .vectors import (
    LANES,
    fused,
    keep_first,
    load,
    load_first,
    plus,
    relu,
    repeat,
    store,
    store_first,
    where_positive,
)


@inlined
def _store_last(value, out, dst, rest, fills):  # type: ignore[no-untyped-def]
    if fills:
        store(keep_first(value, rest), out, dst)
    else:
        store_first(value, out, dst, rest)


@inlined
def copy_row(x, src, out, dst, step, count, fills):  # type: ignore[no-untyped-def]
    """Copy `count` numbers of x to out."""
    blocks, rest = count // LANES, count % LANES
    for b in range(blocks):
        store(load(x, src + b * LANES), out, dst + b * step)
    if rest:
        _store_last(load_first(x, src + blocks * LANES, rest), out, dst + blocks * step, rest, fills)


@inlined
def scale_row(x, src, factor, out, dst, count):  # type: ignore[no-untyped-def]
    """Factor · x of `count` numbers to out."""
    scale, zero = repeat(factor), repeat(factor - factor)
    blocks, rest = count // LANES, count % LANES
    for b in range(blocks):
        store(fused(load(x, src + b * LANES), scale, zero), out, dst + b * LANES)
    if rest:
        value = fused(load_first(x, src + blocks * LANES, rest), scale, zero)
        store_first(value, out, dst + blocks * LANES, rest)


@inlined
def relu_row(x, src, scale, shift, out, dst, step, count, fills):  # type: ignore[no-untyped-def]
    """relu(scale · x + shift) of `count` numbers to out."""
    a, b = repeat(scale), repeat(shift)
    blocks, rest = count // LANES, count % LANES
    for block in range(blocks):
        store(relu(fused(a, load(x, src + block * LANES), b)), out, dst + block * step)
    if rest:
        value = relu(fused(a, load_first(x, src + blocks * LANES, rest), b))
        _store_last(value, out, dst + blocks * step, rest, fills)


@inlined
def affine_row(y, x, src, a, b, d, out, dst, step, count):  # type: ignore[no-untyped-def]
    """A · y + b · x + d of `count` numbers to out, filled up with zeros."""
    left, right, addend = repeat(a), repeat(b), repeat(d)
    blocks, rest = count // LANES, count % LANES
    for block in range(blocks):
        place = src + block * LANES
        store(fused(left, load(y, place), fused(right, load(x, place), addend)), out, dst + block * step)
    if rest:
        place = src + blocks * LANES
        value = fused(left, load_first(y, place, rest), fused(right, load_first(x, place, rest), addend))
        store(keep_first(value, rest), out, dst + blocks * step)


@inlined
def relu_backward_row(x, src, dz, above, out, dst, norm, channel, adds, count, sums):  # type: ignore[no-untyped-def]
    """Take the gradient dz of z = relu(scale · x + shift) through the ReLU to out; if it `adds`, γ times it.

    norm (5, C): scale, shift, 1/σ, −μ/σ and γ of a channel. Return the two `sums` of vectors with those of the
    gradients of shift and scale, Σdy and Σdy·x̂, added.
    """
    scale, shift, gamma = repeat(norm[0, channel]), repeat(norm[1, channel]), repeat(norm[4, channel])
    inverse, offset = repeat(norm[2, channel]), repeat(norm[3, channel])
    shifts, scales = sums
    blocks, rest = count // LANES, count % LANES
    for block in range(blocks):
        p = block * LANES
        row = load(x, src + p)
        value = where_positive(fused(scale, row, shift), load(dz, above + p))
        shifts, scales = plus(shifts, value), fused(value, fused(inverse, row, offset), scales)
        if adds:
            value = fused(gamma, value, load(out, dst + p))
        store(value, out, dst + p)
    if rest:
        p = blocks * LANES
        row = load_first(x, src + p, rest)
        value = where_positive(fused(scale, row, shift), load_first(dz, above + p, rest))
        shifts, scales = plus(shifts, value), fused(value, fused(inverse, row, offset), scales)
        if adds:
            value = fused(gamma, value, load_first(out, dst + p, rest))
        store_first(value, out, dst + p, rest)
    return shifts, scales
