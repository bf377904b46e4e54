"""Kernels of batch norms: statistics, running averages, and how gradients pass.

The small ones are kernels because numpy needs a dozen calls for each, which cost more than the kernels of a
small network. Statistics and sums over a batch are float64, whatever the features are.
"""

from __future__ import annotations

import numpy as np

from .compilation import inlined, kernel
from .tiles import moments


@kernel
def statistics(x, channels, sums, deviations, first, last):  # type: ignore[no-untyped-def]
    """Moments of the first channels of x (N, C, P), for the images from `first` to `last`."""
    for image in range(first, last):
        for channel in range(channels):
            moments(x[image, channel], x.shape[2], sums[image], deviations[image], channel)


@inlined
def _combine(sums, deviations, sizes, pixels, c):  # type: ignore[no-untyped-def]
    """Mean and biased variance of a channel from the moments of its parts (parts, C) (Chan et al. 1979)."""
    total = spread = 0.0
    for part in range(len(sizes)):
        total += sums[part, c]
    mean = total / pixels
    for part in range(len(sizes)):
        apart = sums[part, c] / sizes[part] - mean
        spread += deviations[part, c] + sizes[part] * apart * apart
    return mean, spread / pixels


@inlined
def _scale_and_shift(mean, variance, epsilon, gamma, beta, norm, c):  # type: ignore[no-untyped-def]
    inverse = 1 / np.sqrt(variance + epsilon)
    norm[0, c] = gamma[c] * inverse
    norm[1, c] = beta[c] - mean * gamma[c] * inverse
    norm[2, c] = inverse
    norm[3, c] = -mean * inverse
    norm[4, c] = gamma[c]


@kernel
def batch_norm(  # type: ignore[no-untyped-def]
    sums, deviations, sizes, begin, statistics, gamma, beta, epsilon, running_mean, running_variance, tracked,
    momentum, norm,
):  # fmt: skip
    """A batch norm as kernels read it, norm (5, C): scale and shift of its input, then 1/σ, −μ/σ and γ.

    The moments of the channels from `begin` on, by parts of a batch, join the `statistics` (2, ≥C): mean and
    biased variance. The running ones (C,) move towards those, as torch does it: variance unbiased. The batch is
    counted in tracked (1,).
    """
    tracked[0] += 1
    pixels = sizes.sum()
    for c in range(sums.shape[1]):
        statistics[0, begin + c], statistics[1, begin + c] = _combine(sums, deviations, sizes, pixels, c)
    unbiased = pixels / max(pixels - 1, 1)
    for c in range(len(gamma)):
        mean, variance = statistics[0, c], statistics[1, c]
        running_mean[c] += momentum * (mean - running_mean[c])
        running_variance[c] += momentum * (unbiased * variance - running_variance[c])
        _scale_and_shift(mean, variance, epsilon, gamma, beta, norm, c)


@kernel
def frozen_norm(running_mean, running_variance, gamma, beta, epsilon, norm):  # type: ignore[no-untyped-def]
    """A batch norm in evaluation mode as kernels read it, norm (5, C): see `batch_norm`."""
    for c in range(len(gamma)):
        _scale_and_shift(running_mean[c], running_variance[c], epsilon, gamma, beta, norm, c)


@inlined
def _through_norm(inverse, offset, gamma, dshift, dscale, pixels):  # type: ignore[no-untyped-def]
    """Return a, b, d: the gradient of a norm's input x is a·g + b·x + d, with g that of its output.

    Ioffe & Szegedy 2015; dshift and dscale are Σg and Σg·x̂, γ is 1 if g is the gradient of x̂.
    """
    factor, scale = gamma * inverse, dscale / pixels
    return factor, -factor * inverse * scale, -factor * (dshift / pixels + offset * scale)


@kernel
def through_norm(norm, sums, pixels, affine):  # type: ignore[no-untyped-def]
    """Write affine (3, C): the gradient of a norm's input x is a·g + b·x + d, with g that of its output.

    `sums` (2, C) are Σg and Σg·x̂ over the pixels.
    """
    for c in range(norm.shape[1]):
        inverse, offset, gamma = float(norm[2, c]), float(norm[3, c]), float(norm[4, c])
        affine[0, c], affine[1, c], affine[2, c] = _through_norm(
            inverse, offset, gamma, sums[0, c], sums[1, c], pixels
        )


@kernel
def settle(x, inner, statistics, epsilon, sums, pixels, begin, end, raw, first, last):  # type: ignore[no-untyped-def]
    """Take the gradient of x̂ through the normalisation and add it to that of x, for some channels.

    For the images from `first` to `last`; x, inner, raw (N, ≥C, P), sums (2, C): Σg and Σg·x̂.
    """
    for c in range(begin, end):
        inverse = 1 / np.sqrt(statistics[1, c] + epsilon)
        a, b, d = _through_norm(inverse, -statistics[0, c] * inverse, 1.0, sums[0, c], sums[1, c], pixels)
        number = x.dtype.type
        a_, b_, d_ = number(a), number(b), number(d)
        for image in range(first, last):
            row, src, dst = x[image, c], inner[image, c], raw[image, c]
            for p in range(len(row)):
                dst[p] += a_ * src[p] + b_ * row[p] + d_


@kernel
def add_to_inner(norm, sums, inner_sums):  # type: ignore[no-untyped-def]
    """Add γ times a norm's Σg and Σg·x̂ (2, C) to those of its x̂ (2, ≥C)."""
    for c in range(norm.shape[1]):
        inner_sums[0, c] += norm[4, c] * sums[0, c]
        inner_sums[1, c] += norm[4, c] * sums[1, c]
