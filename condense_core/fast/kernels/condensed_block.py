"""Kernels of condensed networks: a dense block in one call, whose hidden features never leave the cache.

A thread works through chunks of images; if there are fewer chunks than threads, the threads share each chunk.
The 1×1 convolution makes the rows of a chunk that the 3×3 convolution needs next, while they are in the cache.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from .compilation import inlined, kernel
from .microkernels import arrive, arrived, give_way
from .rows import copy_row, relu_row
from .tiles import TILE, pack_tile, panel2, panel4, place_in, plane_size_in_kernel, tap_offsets
from .vectors import LANES

# The columns of a block's table, one row per layer: sizes, and where its arrays start in the flat arrays.
(
    OUT_OFFSET, GROUPS, KEPT, QUADS, HIDDEN, NORM, WEIGHT, BIAS, INDEX, ROWS,
    GROUPS_3X3, REGISTERS, ROWS_PER_REGISTER, OUTPUTS, TAPS,
) = range(15)  # fmt: skip
MAX_NORMALISED = 32_768  # normalised inputs that are kept at a time
SPINS = 1000  # looks at a counter before other threads may have the core
BAND = 1024  # pixels of hidden features that a 3×3 convolution reads at a time


def _dense_block(  # type: ignore[no-untyped-def]
    x, height, width, table, numbers, places, images_per_chunk, shared, met, threads, thread, by_rows,
    first, last,
):  # fmt: skip
    """The layers of a block, for the chunks of `images_per_chunk` images from `first` to `last`.

    x (N, C, P) holds the block's input and takes the features of its layers. If `threads` is more than one, all
    of them work on each chunk: on rows of the images, or on outputs; then `shared` (hidden, plane), 0 at first,
    takes the hidden features. They meet at met (chunks, 2 · layers), 0 at first.
    """
    padded_width = width + 2
    # This thread's share: rows `top` to `bottom` of all outputs, or all rows of share `part` of the outputs.
    top, bottom, part, parts = 0, height, 0, 1
    if threads > 1 and by_rows:
        top, bottom = height * thread // threads, height * (thread + 1) // threads
    elif threads > 1:
        part, parts = thread, threads
    # A band: the rows of hidden features that are kept. All rows of several small images, some of a large one.
    band = bottom - top if images_per_chunk > 1 else min(bottom - top, max(1, BAND // width))
    kept, hidden, quads = np.max(table[:, KEPT]), np.max(table[:, HIDDEN]), np.max(table[:, QUADS])
    made = np.max(table[:, REGISTERS] * table[:, ROWS_PER_REGISTER])
    pixels = max(TILE, width) + LANES
    # Buffers that fit every layer: normalised inputs, padded hidden features, results before they are moved.
    z = np.empty(max(MAX_NORMALISED + kept * LANES, kept * pixels), x.dtype)
    plane = plane_size_in_kernel(images_per_chunk, band, width)
    y = shared if parts > 1 else np.zeros((hidden, plane), x.dtype)
    acc = np.empty(max(4 * quads * pixels, made * y.shape[1]), x.dtype)
    for chunk in range(first, last):
        image = chunk * images_per_chunk
        images = min(images_per_chunk, x.shape[0] - image)
        for i in range(len(table)):
            done = max(0, top - 1)  # hidden rows that are made; with one above, which the first taps read
            for r in range(top, bottom, band):
                rows = min(band, bottom - r)
                end = min(height, r + rows + 1)  # with one below, which the last taps read
                # Above and below the image is padding; inside it, two rows of the band before are read again.
                if r == 0 and parts == 1:
                    _clear(y, table[i, HIDDEN], images, band, padded_width, 0)
                elif r > top:
                    _move_up(y, table[i, HIDDEN], band, padded_width)
                if end == r + rows and parts == 1:
                    _clear(y, table[i, HIDDEN], images, band, padded_width, rows + 1)
                # Make the hidden rows that are missing, then the features of this band from them.
                _pointwise(
                    x, image, images, done, end, r - 1, band, width, table[i], numbers, places, z, acc, y,
                    part, parts,
                )  # fmt: skip
                done = end
                if parts > 1:  # every thread reads the hidden features of all
                    _meet(met[chunk], 2 * i, threads)
                _spatial(x, image, images, r, rows, band, width, table[i], numbers, y, acc, part, parts)
            if threads > 1:  # the next layer reads the features of all threads
                _meet(met[chunk], 2 * i + 1, threads)


block_in_kernel, dense_block = inlined(_dense_block, allocates=True), kernel(_dense_block)


@kernel
def in_threads(  # type: ignore[no-untyped-def]
    x, height, width, table, numbers, places, images_per_chunk, shared, met, threads, by_rows, first, last
):
    """`dense_block` for threads that share chunks, as each thread from `first` to `last` runs it."""
    for thread in range(first, last):
        block_in_kernel(
            x, height, width, table, numbers, places, images_per_chunk, shared, met, threads, thread, by_rows,
            0, len(met),
        )  # fmt: skip


@inlined
def _share_of(units, part, parts):  # type: ignore[no-untyped-def]
    """First and last of the units that one of `parts` computes."""
    return units * part // parts, units * (part + 1) // parts


@inlined
def _meet(met, place, threads):  # type: ignore[no-untyped-def]
    """Wait for the other threads; after a while let those run first that share this one's core."""
    arrive(met, place)
    rounds = 0
    while arrived(met, place) < threads:
        rounds += 1
        if rounds % SPINS == 0:
            give_way()


@inlined
def _clear(y, hidden, images, band, padded_width, row):  # type: ignore[no-untyped-def]
    """Clear a row of padding, above or below the image."""
    for o in range(hidden):
        for s in range(images):
            start = ((band + 2) * s + row) * padded_width
            y[o, start : start + padded_width] = 0


@inlined
def _move_up(y, hidden, band, padded_width):  # type: ignore[no-untyped-def]
    """Move the last two rows of a band to the first of the next."""
    for o in range(hidden):
        copy_row(y[o], band * padded_width, y[o], 0, LANES, 2 * padded_width, False)


@partial(inlined, allocates=True)
def _pointwise(  # type: ignore[no-untyped-def]
    x, image, images, begin, end, above, band, width, layer, numbers, places, z, acc, y, part, parts
):
    """Rows `begin` to `end` of the hidden features into y (hidden, plane), whose first row is `above`."""
    groups, kept, quads = layer[GROUPS], layer[KEPT], layer[QUADS]
    index = places[layer[INDEX] :]
    rows = places[layer[ROWS] :]
    scale = numbers[layer[NORM] :]
    shift = numbers[layer[NORM] + groups * kept :]
    bias = numbers[layer[BIAS] :]
    weight = numbers[layer[WEIGHT] :]
    offsets = np.arange(kept) * LANES
    # Work on as many rows, or images, as normalised inputs of a group fit the cache.
    pixels = max(LANES, min(TILE, MAX_NORMALISED // kept // LANES * LANES))
    lines = max(1, min(end - begin, pixels // width))  # the last band may need no row that is not there
    images_at_once = max(1, pixels // (lines * width)) if lines == end - begin else 1
    stride = (images_at_once * lines * width + LANES - 1) // LANES * LANES
    padded_width, plane, one = width + 2, y.shape[1], x.dtype.type(1)
    first_quad, last_quad = _share_of(groups * quads, part, parts)
    for s in range(0, images, images_at_once):
        count = min(images_at_once, images - s)
        for r in range(begin, end, lines):
            n = min(lines, end - r) * width
            blocks = (count * n + LANES - 1) // LANES
            packed = z[: blocks * kept * LANES].reshape(blocks, kept, LANES)
            for g in range(groups):
                lowest, highest = max(0, first_quad - g * quads), min(quads, last_quad - g * quads)
                if lowest >= highest:
                    continue
                # Gather and normalise the inputs of the group.
                for k in range(kept):
                    c = g * kept + k
                    pack_tile(x, image + s, index[c], r * width, count, n, scale[c], shift[c], packed, k)
                # Multiply 4 outputs by 16 pixels at a time.
                for b in range(blocks):
                    for m in range(lowest, highest):
                        src, dst = (g * quads + m) * kept * 4, m * 4 * stride + b * LANES
                        panel4(z, b * kept * LANES, offsets, kept, weight, src, acc, dst, stride)
                # Add the bias, apply the ReLU, and move the rows to their places between the padding.
                for m in range(4 * lowest, 4 * highest):
                    o = rows[g * 4 * quads + m]
                    if o >= 0:
                        for i in range(count):
                            for line in range(n // width):
                                src = m * stride + i * n + line * width
                                dst = ((band + 2) * (s + i) + r + line - above) * padded_width + 1
                                relu_row(acc, src, one, bias[o], y, o * plane + dst, LANES, width, False)


@partial(inlined, allocates=True)
def _spatial(x, image, images, top, rows, band, width, layer, numbers, y, acc, part, parts):  # type: ignore[no-untyped-def]
    """Rows from `top` on of the 3×3 convolution of y (hidden, plane) into x, from channel OUT_OFFSET on."""
    out_offset, groups, registers = layer[OUT_OFFSET], layer[GROUPS_3X3], layer[REGISTERS]
    rows_per_register, outputs = layer[ROWS_PER_REGISTER], layer[OUTPUTS]
    inputs, padded_width, plane = layer[HIDDEN] // groups, width + 2, y.shape[1]
    entries = 9 * inputs
    first_register, last_register = _share_of(groups * registers, part, parts)
    weight = numbers[layer[TAPS] :]
    offsets = tap_offsets(inputs, plane, padded_width, 1)
    # Padded rows are convolved as one long row: results on borders are computed and not read.
    length = (images - 1) * (band + 2) * padded_width + rows * padded_width - 2
    flat_y = y.reshape(-1)
    for g in range(groups):
        lowest, highest = max(0, first_register - g * registers), min(registers, last_register - g * registers)
        # Multiply by all taps of all hidden features in one product, whose sums stay in registers.
        for m in range(lowest, highest):
            weights = (g * registers + m) * entries * rows_per_register
            start, into = g * inputs * plane, m * rows_per_register * plane
            if rows_per_register == 4:
                for p in range(0, length, LANES):
                    panel4(flat_y, start + p, offsets, entries, weight, weights, acc, into + p, plane)
            else:
                for p in range(0, length, 2 * LANES):
                    panel2(flat_y, start + p, offsets, entries, weight, weights, acc, into + p, plane)
        # Append the features, without borders.
        for m in range(lowest * rows_per_register, min(outputs, highest * rows_per_register)):
            for s in range(images):
                dst = place_in(x, image + s, out_offset + g * outputs + m, top * width)
                for r in range(rows):
                    src = m * plane + ((band + 2) * s + r) * padded_width
                    copy_row(acc, src, x, dst + r * width, LANES, width, False)
