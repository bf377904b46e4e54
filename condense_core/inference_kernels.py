"""Kernels of condensed networks: a dense block in one call, whose hidden features never leave the cache.

A thread works through chunks: some images, or a band of rows of one image where threads share an image. Of a
chunk the 1×1 convolution makes the rows that the 3×3 convolution needs next, and that reads them while they are
near.
"""

from __future__ import annotations

import numpy as np

from .kernels import _kernel, _pack, _panel2, _panel4, _places
from .microkernels import LANES, arrive, arrived, give_way

# what the table of a block holds of a layer: sizes, and where its arrays begin among all numbers and places
(
    BEHIND, GROUPS, KEPT, QUADS, HIDDEN, NORM, WEIGHT, BIAS, INDEX, ROWS,
    GROUPS_3X3, REGISTERS, TOGETHER, OUTPUTS, TAPS,
) = range(15)  # fmt: skip
NORMALISED = 32_768  # numbers that normalised inputs may fill at a time
PIECE = 512  # pixels that a 1×1 convolution works on at a time, unless their inputs are too many
PATIENCE = 1000  # looks at a counter before other threads may have the core
BAND = 1024  # pixels of hidden features that a 3×3 convolution reads at a time


@_kernel
def images_at_a_time(area):  # type: ignore[no-untyped-def]
    """How many small images make a chunk."""
    return max(1, PIECE // area)


@_kernel
def dense_block(  # type: ignore[no-untyped-def]
    x, height, width, table, numbers, places, each, met, threads, top, bottom, first, last
):
    """Rows `top` to `bottom` of the layers of a block, for the chunks of `each` images from `first` to `last`.

    x (N, C, P) holds the block's input and takes what its layers make. With more than one of `threads` all of
    them work on each chunk, and meet after each layer: met (chunks, layers) is 0 at first.
    """
    wide = width + 2
    high = bottom - top if each > 1 else min(bottom - top, max(1, BAND // width))
    plane = each * (high + 2) * wide + LANES
    kept, hidden, quads = np.max(table[:, KEPT]), np.max(table[:, HIDDEN]), np.max(table[:, QUADS])
    made = np.max(table[:, REGISTERS] * table[:, TOGETHER])
    pixels = max(PIECE, width) + LANES
    z = np.empty(max(NORMALISED + kept * LANES, kept * pixels), x.dtype)
    y = np.zeros((hidden, plane), x.dtype)
    acc = np.empty(max(4 * quads * pixels, made * plane), x.dtype)
    for chunk in range(first, last):
        image = chunk * each
        images = min(each, x.shape[0] - image)
        for i in range(len(table)):
            done = max(0, top - 1)
            for r in range(top, bottom, high):
                rows = min(high, bottom - r)
                end = min(height, r + rows + 1)
                if r == 0:
                    _clear(y, table[i, HIDDEN], images, high, wide, 0)
                elif r > top:
                    _move_up(y, table[i, HIDDEN], high, wide)
                if end == r + rows:
                    _clear(y, table[i, HIDDEN], images, high, wide, rows + 1)
                _pointwise(
                    x, image, images, done, end, r - 1, high, width, table[i], numbers, places, z, acc, y
                )
                done = end
                _spatial(x, image, images, r, rows, high, width, table[i], numbers, y, acc, plane)
            if threads > 1:
                _meet(met[chunk], i, threads)


@_kernel
def bands(x, height, width, table, numbers, places, each, met, threads, first, last):  # type: ignore[no-untyped-def]
    """The same where `threads` share each image: thread t of them makes the t-th band of its rows."""
    for t in range(first, last):
        top, bottom = height * t // threads, height * (t + 1) // threads
        dense_block(x, height, width, table, numbers, places, each, met, threads, top, bottom, 0, len(met))


@_kernel
def _meet(met, at, threads):  # type: ignore[no-untyped-def]
    """Wait for the other threads; after a while let those go first that share this one's core."""
    arrive(met, at)
    rounds = 0
    while arrived(met, at) < threads:
        rounds += 1
        if rounds % PATIENCE == 0:
            give_way()


@_kernel
def _clear(y, hidden, images, high, wide, row):  # type: ignore[no-untyped-def]
    """A row of padding, above or below the image."""
    for o in range(hidden):
        for s in range(images):
            at = ((high + 2) * s + row) * wide
            y[o, at : at + wide] = 0


@_kernel
def _move_up(y, hidden, high, wide):  # type: ignore[no-untyped-def]
    """The last two rows of a band become the first of the next."""
    for o in range(hidden):
        y[o, : 2 * wide] = y[o, high * wide : (high + 2) * wide]


@_kernel
def _pointwise(x, image, images, begin, end, above, high, width, layer, numbers, places, z, acc, y):  # type: ignore[no-untyped-def]
    """Rows `begin` to `end` of the hidden features into y (hidden, plane), which begins with row `above`."""
    groups, kept, quads = layer[GROUPS], layer[KEPT], layer[QUADS]
    index = places[layer[INDEX] :]
    rows = places[layer[ROWS] :]
    scale = numbers[layer[NORM] :]
    shift = numbers[layer[NORM] + groups * kept :]
    bias = numbers[layer[BIAS] :]
    weight = numbers[layer[WEIGHT] :]
    offsets = np.arange(kept) * LANES
    pixels = max(LANES, min(PIECE, NORMALISED // kept // LANES * LANES))
    lines = min(end - begin, max(1, pixels // width))
    count = max(1, pixels // (lines * width)) if lines == end - begin else 1
    stride = (count * lines * width + LANES - 1) // LANES * LANES
    wide, zero = width + 2, x.dtype.type(0)
    for s in range(0, images, count):
        some = min(count, images - s)
        for r in range(begin, end, lines):
            n = min(lines, end - r) * width
            blocks = (some * n + LANES - 1) // LANES
            packed = z[: blocks * kept * LANES].reshape(blocks, kept, LANES)
            for g in range(groups):
                for k in range(kept):
                    own = g * kept + k
                    _pack(x, image + s, index[own], r * width, some, n, scale[own], shift[own], packed, k)
                for b in range(blocks):
                    for m in range(quads):
                        own, to = (g * quads + m) * kept * 4, m * 4 * stride + b * LANES
                        _panel4(z, b * kept * LANES, offsets, kept, weight, own, acc, to, stride)
                for m in range(4 * quads):
                    o = rows[g * 4 * quads + m]
                    if o >= 0:
                        more = bias[o]
                        for i in range(some):
                            for line in range(n // width):
                                at = ((high + 2) * (s + i) + r + line - above) * wide + 1
                                come = m * stride + i * n + line * width
                                row, into = acc[come : come + width], y[o, at : at + width]
                                for p in range(width):
                                    value = row[p] + more
                                    into[p] = zero if value < zero else value


@_kernel
def _spatial(x, image, images, top, rows, high, width, layer, numbers, y, acc, plane):  # type: ignore[no-untyped-def]
    """Rows from `top` on of the 3×3 convolution of y (hidden, plane) into x, from channel `behind` on."""
    behind, groups, registers, together, outputs = (
        layer[BEHIND],
        layer[GROUPS_3X3],
        layer[REGISTERS],
        layer[TOGETHER],
        layer[OUTPUTS],
    )
    inputs, wide = layer[HIDDEN] // groups, width + 2
    entries = 9 * inputs
    weight = numbers[layer[TAPS] :]
    offsets = _places(inputs, plane, wide)
    flat = (images - 1) * (high + 2) * wide + rows * wide - 2
    flat_y = y.reshape(-1)
    for g in range(groups):
        for m in range(registers):
            own, to = (g * registers + m) * entries * together, m * together * plane
            for p in range(0, flat, LANES):
                at = g * inputs * plane + p
                if together == 4:
                    _panel4(flat_y, at, offsets, entries, weight, own, acc, to + p, plane)
                else:
                    _panel2(flat_y, at, offsets, entries, weight, own, acc, to + p, plane)
        for m in range(outputs):
            for s in range(images):
                row = x[image + s, behind + g * outputs + m]
                for r in range(rows):
                    come = m * plane + ((high + 2) * s + r) * wide
                    row[(top + r) * width : (top + r + 1) * width] = acc[come : come + width]
