"""Kernels of condensed networks: a dense block in one call, whose hidden features never leave the cache.

A thread works through chunks of images; where there are fewer than threads, these share each. Of a
chunk the 1×1 convolution makes the rows that the 3×3 convolution needs next, and that reads them while they are
near.
"""

from __future__ import annotations

import numpy as np

from .compilation import inlined, kernel
from .conv3x3 import _places
from .microkernels import LANES, arrive, arrived, give_way
from .tiles import TILE, _pack, _panel2, _panel4

# what the table of a block holds of a layer: sizes, and where its arrays begin among all numbers and places
(
    BEHIND, GROUPS, KEPT, QUADS, HIDDEN, NORM, WEIGHT, BIAS, INDEX, ROWS,
    GROUPS_3X3, REGISTERS, TOGETHER, OUTPUTS, TAPS,
) = range(15)  # fmt: skip
NORMALISED = 32_768  # numbers that normalised inputs may fill at a time
PATIENCE = 1000  # looks at a counter before other threads may have the core
BAND = 1024  # pixels of hidden features that a 3×3 convolution reads at a time


def _dense_block(  # type: ignore[no-untyped-def]
    x, height, width, table, numbers, places, each, shared, met, threads, thread, by_rows, first, last
):
    """The layers of a block, for the chunks of `each` images from `first` to `last`.

    x (N, C, P) holds the block's input and takes what its layers make. More than one of `threads` all work on
    each chunk: on rows of the images, or on outputs, and then `shared` (hidden, plane) is 0 at first and takes
    what they hide. They meet at met (chunks, 2 · layers), 0 at first.
    """
    wide = width + 2
    top, bottom, part, parts = 0, height, 0, 1
    if threads > 1 and by_rows:
        top, bottom = height * thread // threads, height * (thread + 1) // threads
    elif threads > 1:
        part, parts = thread, threads
    high = bottom - top if each > 1 else min(bottom - top, max(1, BAND // width))
    kept, hidden, quads = np.max(table[:, KEPT]), np.max(table[:, HIDDEN]), np.max(table[:, QUADS])
    made = np.max(table[:, REGISTERS] * table[:, TOGETHER])
    pixels = max(TILE, width) + LANES
    z = np.empty(max(NORMALISED + kept * LANES, kept * pixels), x.dtype)
    y = shared if parts > 1 else np.zeros((hidden, _room(each, high, width)), x.dtype)
    acc = np.empty(max(4 * quads * pixels, made * y.shape[1]), x.dtype)
    for chunk in range(first, last):
        image = chunk * each
        images = min(each, x.shape[0] - image)
        for i in range(len(table)):
            done = max(0, top - 1)
            for r in range(top, bottom, high):
                rows = min(high, bottom - r)
                end = min(height, r + rows + 1)
                if r == 0 and parts == 1:
                    _clear(y, table[i, HIDDEN], images, high, wide, 0)
                elif r > top:
                    _move_up(y, table[i, HIDDEN], high, wide)
                if end == r + rows and parts == 1:
                    _clear(y, table[i, HIDDEN], images, high, wide, rows + 1)
                _pointwise(
                    x, image, images, done, end, r - 1, high, width, table[i], numbers, places, z, acc, y,
                    part, parts,
                )  # fmt: skip
                done = end
                if parts > 1:
                    _meet(met[chunk], 2 * i, threads)
                _spatial(x, image, images, r, rows, high, width, table[i], numbers, y, acc, part, parts)
            if threads > 1:
                _meet(met[chunk], 2 * i + 1, threads)


def room(images, rows, width):  # type: ignore[no-untyped-def]
    """Numbers of a plane of padded hidden features, with room for the last block to reach beyond."""
    return images * (rows + 2) * (width + 2) + LANES


_room, _block, dense_block = inlined(room), inlined(_dense_block), kernel(_dense_block)


@kernel
def in_threads(  # type: ignore[no-untyped-def]
    x, height, width, table, numbers, places, each, shared, met, threads, by_rows, first, last
):
    """`dense_block` as each of the threads from `first` to `last` runs it where they share chunks."""
    for thread in range(first, last):
        _block(
            x, height, width, table, numbers, places, each, shared, met, threads, thread, by_rows, 0, len(met)
        )  # fmt: skip


@inlined
def _share_of(units, part, parts):  # type: ignore[no-untyped-def]
    """From which to which of some units one of `parts` goes."""
    return units * part // parts, units * (part + 1) // parts


@inlined
def _meet(met, at, threads):  # type: ignore[no-untyped-def]
    """Wait for the other threads; after a while let those go first that share this one's core."""
    arrive(met, at)
    rounds = 0
    while arrived(met, at) < threads:
        rounds += 1
        if rounds % PATIENCE == 0:
            give_way()


@inlined
def _clear(y, hidden, images, high, wide, row):  # type: ignore[no-untyped-def]
    """A row of padding, above or below the image."""
    for o in range(hidden):
        for s in range(images):
            at = ((high + 2) * s + row) * wide
            y[o, at : at + wide] = 0


@inlined
def _move_up(y, hidden, high, wide):  # type: ignore[no-untyped-def]
    """The last two rows of a band become the first of the next."""
    for o in range(hidden):
        y[o, : 2 * wide] = y[o, high * wide : (high + 2) * wide]


@inlined
def _pointwise(  # type: ignore[no-untyped-def]
    x, image, images, begin, end, above, high, width, layer, numbers, places, z, acc, y, part, parts
):
    """Rows `begin` to `end` of the hidden features into y (hidden, plane), which begins with row `above`."""
    groups, kept, quads = layer[GROUPS], layer[KEPT], layer[QUADS]
    index = places[layer[INDEX] :]
    rows = places[layer[ROWS] :]
    scale = numbers[layer[NORM] :]
    shift = numbers[layer[NORM] + groups * kept :]
    bias = numbers[layer[BIAS] :]
    weight = numbers[layer[WEIGHT] :]
    offsets = np.arange(kept) * LANES
    pixels = max(LANES, min(TILE, NORMALISED // kept // LANES * LANES))
    lines = min(end - begin, max(1, pixels // width))
    count = max(1, pixels // (lines * width)) if lines == end - begin else 1
    stride = (count * lines * width + LANES - 1) // LANES * LANES
    wide, zero = width + 2, x.dtype.type(0)
    from_, to_ = _share_of(groups * quads, part, parts)
    for s in range(0, images, count):
        some = min(count, images - s)
        for r in range(begin, end, lines):
            n = min(lines, end - r) * width
            blocks = (some * n + LANES - 1) // LANES
            packed = z[: blocks * kept * LANES].reshape(blocks, kept, LANES)
            for g in range(groups):
                lowest, highest = max(0, from_ - g * quads), min(quads, to_ - g * quads)
                if lowest >= highest:
                    continue
                for k in range(kept):
                    own = g * kept + k
                    _pack(x, image + s, index[own], r * width, some, n, scale[own], shift[own], packed, k)
                for b in range(blocks):
                    for m in range(lowest, highest):
                        own, to = (g * quads + m) * kept * 4, m * 4 * stride + b * LANES
                        _panel4(z, b * kept * LANES, offsets, kept, weight, own, acc, to, stride)
                for m in range(4 * lowest, 4 * highest):
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


@inlined
def _spatial(x, image, images, top, rows, high, width, layer, numbers, y, acc, part, parts):  # type: ignore[no-untyped-def]
    """Rows from `top` on of the 3×3 convolution of y (hidden, plane) into x, from channel `behind` on."""
    behind, groups, registers, together, outputs = (
        layer[BEHIND],
        layer[GROUPS_3X3],
        layer[REGISTERS],
        layer[TOGETHER],
        layer[OUTPUTS],
    )
    inputs, wide, plane = layer[HIDDEN] // groups, width + 2, y.shape[1]
    entries = 9 * inputs
    from_, to_ = _share_of(groups * registers, part, parts)
    weight = numbers[layer[TAPS] :]
    offsets = _places(inputs, plane, wide)
    flat = (images - 1) * (high + 2) * wide + rows * wide - 2
    flat_y = y.reshape(-1)
    for g in range(groups):
        lowest, highest = max(0, from_ - g * registers), min(registers, to_ - g * registers)
        for m in range(lowest, highest):
            own, to = (g * registers + m) * entries * together, m * together * plane
            for p in range(0, flat, LANES):
                at = g * inputs * plane + p
                if together == 4:
                    _panel4(flat_y, at, offsets, entries, weight, own, acc, to + p, plane)
                else:
                    _panel2(flat_y, at, offsets, entries, weight, own, acc, to + p, plane)
        for m in range(lowest * together, min(outputs, highest * together)):
            for s in range(images):
                row = x[image + s, behind + g * outputs + m]
                for r in range(rows):
                    come = m * plane + ((high + 2) * s + r) * wide
                    row[(top + r) * width : (top + r + 1) * width] = acc[come : come + width]
