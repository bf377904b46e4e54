"""A condensed network in one kernel: some images at a time go through all of it, and stay in the cache."""

from __future__ import annotations

import numpy as np

from .compilation import inlined, kernel
from .condensed_block import block_in_kernel
from .pooling import pool_in_kernel
from .rows import copy_row
from .tiles import cut_in_kernel, panel4, place_in, plane_size_in_kernel, tap_offsets
from .vectors import LANES, fused, keep_first, load, load_first, plus, relu, repeat, total

# The columns of a network's parts, one row per block: its input's and its own channels, height, width, and its
# first and last layer.
INPUTS, CHANNELS, HEIGHT, WIDTH, BEGIN, END = range(6)
COLOURS, PATCH = 3, 27


@kernel
def network(  # type: ignore[no-untyped-def]
    images, taps, parts, table, numbers, places, index, head, weight, bias, images_per_pass, logits, first, last
):
    """Logits (N, K) of images (N, 3, H · W), for the passes of `images_per_pass` from `first` to `last`.

    taps (O / 4, 27, 4): the stem's weights; without any, images are the stem's results (N, O, H · W). `parts`
    as above; table, numbers and places as in `dense_block`. The head reads the features `index` (C,): scale and
    shift of its norm, head (2, C), and the linear layer, weight (K, C) and bias (K,).
    """
    count, features = images.shape[0], 0
    for part in parts:
        features = max(features, part[CHANNELS] * part[HEIGHT] * part[WIDTH])
    here = np.empty(images_per_pass * features, images.dtype)
    there = np.empty_like(here)
    height, width = parts[0, HEIGHT], parts[0, WIDTH]
    plane = plane_size_in_kernel(1, height, width)
    padded, made = np.zeros((COLOURS, plane), images.dtype), np.empty((4 * len(taps), plane), images.dtype)
    offsets = tap_offsets(COLOURS, plane, width + 2, 1)
    alone = np.zeros((1, 1), images.dtype), np.zeros((1, 1), np.int64)
    for number in range(first, last):
        image = number * images_per_pass
        some = min(images_per_pass, count - image)
        x = here[:0].reshape(0, 1, 1)
        for b in range(len(parts)):
            part = parts[b]
            height, width, inputs, channels = part[HEIGHT], part[WIDTH], part[INPUTS], part[CHANNELS]
            out = here[: some * channels * height * width].reshape(some, channels, height * width)
            if b == 0:
                _stem(images, image, taps, height, width, padded, made, offsets, inputs, out)
            else:
                before = parts[b - 1]
                source = x.reshape(some, inputs, before[HEIGHT], before[WIDTH], 1)
                pool_in_kernel(source, inputs, out.reshape(some, channels, height, width, 1), 0, some * inputs)
            images_per_chunk = min(cut_in_kernel(height * width)[0], some)
            block_in_kernel(
                out, height, width, table[part[BEGIN] : part[END]], numbers, places, images_per_chunk,
                alone[0], alone[1], 1, 0, True, 0, -(-some // images_per_chunk),
            )  # fmt: skip
            x, here, there = out, there, here
        for s in range(some):
            _classify(x, s, index, head, weight, bias, logits[image + s])


@inlined
def _stem(images, image, taps, height, width, padded, made, offsets, channels, out):  # type: ignore[no-untyped-def]
    """3×3 convolution of some images into the first channels of out (n, C, P), or their results as given."""
    area, plane = height * width, padded.shape[1]
    flat_padded, flat_taps, flat_made = padded.reshape(-1), taps.reshape(-1), made.reshape(-1)
    for s in range(len(out)):
        if len(taps) == 0:
            src, dst = place_in(images, image + s, 0, 0), place_in(out, s, 0, 0)
            copy_row(images, src, out, dst, LANES, channels * area, False)
            continue
        for c in range(COLOURS):
            for r in range(height):
                src, dst = place_in(images, image + s, c, r * width), c * plane + (r + 1) * (width + 2) + 1
                copy_row(images, src, padded, dst, LANES, width, False)
        for m in range(len(taps)):
            for p in range(0, height * (width + 2) - 2, LANES):
                dst = m * 4 * plane + p
                panel4(flat_padded, p, offsets, PATCH, flat_taps, m * 4 * PATCH, flat_made, dst, plane)
        for o in range(channels):
            for r in range(height):
                src, dst = o * plane + r * (width + 2), place_in(out, s, o, r * width)
                copy_row(made, src, out, dst, LANES, width, False)


@inlined
def _classify(x, s, index, head, weight, bias, logits):  # type: ignore[no-untyped-def]
    """Norm, ReLU, mean over the pixels and linear layer of one image."""
    area, classes = x.shape[2], len(bias)
    blocks, rest = area // LANES, area % LANES
    for k in range(classes):
        logits[k] = bias[k]
    for c in range(len(index)):
        src, scale, shift = place_in(x, s, index[c], 0), repeat(head[0, c]), repeat(head[1, c])
        sums = repeat(x.dtype.type(0))
        for b in range(blocks):
            sums = plus(sums, relu(fused(scale, load(x, src + b * LANES), shift)))
        if rest:
            value = relu(fused(scale, load_first(x, src + blocks * LANES, rest), shift))
            sums = plus(sums, keep_first(value, rest))
        mean = total(sums) / x.dtype.type(area)
        for k in range(classes):
            logits[k] += weight[k, c] * mean
