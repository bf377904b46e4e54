"""Kernels of the network's end: norm, ReLU, mean over the pixels, linear layer and cross-entropy.

Numbers of an image are columns, so that loops run over images. Features are (N, ≥C, P, I) with I = 1, or with
one image of I in which the images lie side by side.
"""

from __future__ import annotations

import numpy as np

from .compilation import kernel


@kernel
def mean_features(x, norm, means):  # type: ignore[no-untyped-def]
    """Means over the pixels of relu(scale · x + shift): x (N, ≥C, P, I), norm (5, C) → means (C, N · I)."""
    images, _, pixels, inner = x.shape
    zero, share = x.dtype.type(0), x.dtype.type(1 / pixels)
    for c in range(norm.shape[1]):
        scale, shift = norm[0, c], norm[1, c]
        for image in range(images):
            total = means[c, image * inner : (image + 1) * inner]
            total[:] = 0
            for p in range(pixels):
                row = x[image, c, p]
                for n in range(inner):
                    value = scale * row[n] + shift
                    total[n] += zero if value < zero else value
            for n in range(inner):
                total[n] *= share


@kernel
def mean_features_backward(x, norm, dmeans, inner_gradient, dshift, dscale):  # type: ignore[no-untyped-def]
    """Backward pass of `mean_features`: γ times the gradient of the norm's output is added to that of x̂."""
    images, _, pixels, inner = x.shape
    zero, share = x.dtype.type(0), x.dtype.type(1 / pixels)
    for c in range(norm.shape[1]):
        scale, shift, inverse, offset = norm[0, c], norm[1, c], norm[2, c], norm[3, c]
        gamma = norm[4, c]
        shift_sum = scale_sum = zero
        for image in range(images):
            above = dmeans[c, image * inner : (image + 1) * inner]
            for p in range(pixels):
                row, below = x[image, c, p], inner_gradient[image, c, p]
                for n in range(inner):
                    value = share * above[n] if scale * row[n] + shift > zero else zero
                    shift_sum += value
                    scale_sum += value * (inverse * row[n] + offset)
                    below[n] += gamma * value
        dshift[c] += shift_sum
        dscale[c] += scale_sum


@kernel
def classify(means, weight, bias, logits):  # type: ignore[no-untyped-def]
    """Linear layer: means (C, N), weight (K, C), bias (K,) → logits (K, N)."""
    for k in range(len(bias)):
        row = logits[k]
        row[:] = bias[k]
        for c in range(len(means)):
            factor, column = weight[k, c], means[c]
            for n in range(len(row)):
                row[n] += factor * column[n]


@kernel
def cross_entropy(logits, labels, dlogits, answer):  # type: ignore[no-untyped-def]
    """Mean cross-entropy of logits (K, N) and the number of wrong answers into answer (2,); its gradient."""
    classes, images = logits.shape
    loss, wrong = 0.0, 0
    for n in range(images):
        best = 0
        for k in range(classes):
            if not logits[k, n] <= logits[best, n]:  # NaN is the largest, as in torch
                best = k
        total = 0.0
        for k in range(classes):
            total += np.exp(logits[k, n] - logits[best, n])
        right = labels[n]
        loss += np.log(total) - (logits[right, n] - logits[best, n])
        wrong += best != right
        for k in range(classes):
            probability = np.exp(logits[k, n] - logits[best, n]) / total
            dlogits[k, n] = (probability - (k == right)) / images
    answer[0] = loss / images
    answer[1] = wrong


@kernel
def classify_backward(means, dlogits, weight, dweight, dbias, dmeans):  # type: ignore[no-untyped-def]
    """Backward pass of `classify`: the gradients of weight, bias and means."""
    zero = means.dtype.type(0)
    dmeans[:] = 0
    for k in range(len(dbias)):
        above, total = dlogits[k], zero
        for n in range(len(above)):
            total += above[n]
        dbias[k] = total
        for c in range(len(means)):
            column, below, factor, total = means[c], dmeans[c], weight[k, c], zero
            for n in range(len(above)):
                total += above[n] * column[n]
                below[n] += factor * above[n]
            dweight[k, c] = total
