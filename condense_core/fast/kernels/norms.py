"""Kernels of batch norms: statistics, running averages, and how gradients pass.

The small ones are kernels because numpy needs a dozen calls for each, which cost more than the kernels of a
small network.
"""

from __future__ import annotations

import numpy as np

from .compilation import kernel
from .tiles import moments


@kernel
def statistics(x, channels, sums, deviations, first, last):  # type: ignore[no-untyped-def]
    """Moments of the first channels of x (N, C, P), for the images from `first` to `last`."""
    for image in range(first, last):
        for channel in range(channels):
            moments(x[image, channel], x.shape[2], sums[image], deviations[image], channel)


@kernel
def norm_backward(x, gradient, affine, offset, out, first, last):  # type: ignore[no-untyped-def]
    """Add affine[0]·gradient + affine[1]·x + affine[2] to the channels of `out` from `offset` on."""
    for image in range(first, last):
        for channel in range(affine.shape[1]):
            a, b, d = affine[0, channel], affine[1, channel], affine[2, channel]
            c = offset + channel
            row, src, dst = x[image, c], gradient[image, c], out[image, c]
            for p in range(len(row)):
                dst[p] += a * src[p] + b * row[p] + d


@kernel
def combine(sums, deviations, sizes, mean, variance):  # type: ignore[no-untyped-def]
    """Mean and biased variance (C,) of each channel from the moments of its parts (parts, C).

    Chan et al. 1979: in float64, whatever the numbers of the parts are.
    """
    pixels = sizes.sum()
    for c in range(sums.shape[1]):
        total = spread = 0.0
        for part in range(len(sizes)):
            total += sums[part, c]
        mean[c] = total / pixels
        for part in range(len(sizes)):
            apart = sums[part, c] / sizes[part] - mean[c]
            spread += deviations[part, c] + sizes[part] * apart * apart
        variance[c] = spread / pixels


@kernel
def track(mean, variance, pixels, momentum, running_mean, running_variance):  # type: ignore[no-untyped-def]
    """Move a batch norm's running statistics towards those of a batch, as torch does: variance unbiased."""
    unbiased = pixels / max(pixels - 1, 1)
    for c in range(len(running_mean)):
        running_mean[c] += momentum * (mean[c] - running_mean[c])
        running_variance[c] += momentum * (unbiased * variance[c] - running_variance[c])


@kernel
def scale_and_shift(mean, variance, epsilon, gamma, beta, norm):  # type: ignore[no-untyped-def]
    """A batch norm as kernels read it, norm (5, C): scale and shift of its input, then 1/σ, −μ/σ and γ."""
    for c in range(len(gamma)):
        inverse = 1 / np.sqrt(variance[c] + epsilon)
        norm[0, c] = gamma[c] * inverse
        norm[1, c] = beta[c] - mean[c] * gamma[c] * inverse
        norm[2, c] = inverse
        norm[3, c] = -mean[c] * inverse
        norm[4, c] = gamma[c]


@kernel
def through_norm(norm, gamma, sums, pixels, affine):  # type: ignore[no-untyped-def]
    """Write affine (3, C): the gradient of a norm's input x is a·g + b·x + d, with g that of its output.

    Ioffe & Szegedy 2015; `sums` (2, C) are Σg and Σg·x̂ over the pixels, γ is 1 if g is the gradient of x̂.
    """
    for c in range(len(gamma)):
        inverse, offset = float(norm[2, c]), float(norm[3, c])
        factor, shift, scale = gamma[c] * inverse, sums[0, c] / pixels, sums[1, c] / pixels
        affine[0, c] = factor
        affine[1, c] = -factor * inverse * scale
        affine[2, c] = -factor * (shift + offset * scale)
