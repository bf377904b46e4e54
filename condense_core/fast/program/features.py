"""The features of a resolution: a dense block's input and the results of its layers, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from condense_core.fast.kernels import norms
from condense_core.fast.layout import Array, Layout

from .buffers import Buffers
from .calls import Calls
from .layers import Norm


class Moments:
    """Σx and Σ(x − mean)² of channels from `begin` on, by parts of a batch, as kernels fill them in."""

    def __init__(self, sizes: Array, channels: int, begin: int, dtype: Any):
        self.sizes, self.begin = sizes, begin
        self.sums, self.deviations = np.empty((2, len(sizes), channels), dtype)


class Features:
    """Features of a batch (see `layout`), to which layers append; gradients of them and of the normalised ones.

    The batch statistics of a feature (2, C) are computed once, although every later layer normalises it. So is
    its gradient: a layer adds to that of the normalised feature x̂, and `settle` takes it through the
    normalisation when all have done so.
    """

    def __init__(self, buffers: Buffers, number: int, layout: Layout, channels: int):
        self.layout = layout
        self.channels = self._normalised = 0  # so far; of those, how many a norm reads
        shape = layout.shape(channels)
        self.array = buffers(f"block {number} features", *shape)
        # The backward pass has the gradients of two neighbours at a time, and works on those of one.
        self.raw, self.inner = buffers(f"raw {number % 2}", *shape), buffers("inner", *shape)
        self.statistics, self.sums = np.empty((2, channels)), np.empty((2, channels))
        self._epsilon = 0.0
        self._moments: Moments

    def append(self, moments: Moments) -> None:
        """Note that kernels write further channels and their moments."""
        self.channels, self._moments = moments.begin + moments.sums.shape[1], moments

    def take_moments(self, calls: Calls, channels: int) -> None:
        """Append the first channels, which are written without their moments."""
        moments = Moments(self.layout.image_sizes, channels, 0, self.array.dtype)
        calls.share(norms.statistics, len(self.array), self.array, channels, moments.sums, moments.deviations)
        self.append(moments)

    def normalise(self, calls: Calls, norm: Norm) -> None:
        """Set up the norm of all features so far, by the moments of those that came last."""
        self._epsilon, self._normalised = norm.epsilon, self.channels
        set_up(calls, norm, self._moments, self.statistics)

    @property
    def all_are_normalised(self) -> bool:
        """Whether a norm reads the features of the last layer too."""
        return self._normalised == self.channels

    def clear(self, calls: Calls, raw: bool = True) -> None:
        """Set the gradients to 0, before the backward pass."""
        for array in (self.inner, self.sums, *([self.raw] if raw else [])):
            calls.add(array.fill, 0)

    def add_sums(self, calls: Calls, norm: Norm) -> None:
        """Add what a norm has summed up to the sums of x̂."""
        calls.add(norms.add_to_inner, norm.affine, norm.sums, self.sums)

    def settle(self, calls: Calls, begin: int, end: int) -> None:
        """Complete the gradient of some features: all layers that read them have added to it."""
        calls.share(
            norms.settle, len(self.array), self.array, self.inner, self.statistics, self._epsilon, self.sums,
            self.layout.pixels, begin, end, self.raw,
        )  # fmt: skip


def set_up(calls: Calls, norm: Norm, moments: Moments, statistics: Array) -> None:
    """Set up a batch norm by the moments of its input, which join the statistics and are tracked.

    In evaluation it takes the running statistics.
    """
    if not calls.training:
        calls.add(norms.frozen_norm, *norm.running, norm.gamma, norm.beta, norm.epsilon, norm.affine)
        return
    calls.add(
        norms.batch_norm, moments.sums, moments.deviations, moments.sizes, moments.begin, statistics,
        norm.gamma, norm.beta, norm.epsilon, *norm.running, norm.tracked,
        norm.momentum, norm.affine,
    )  # fmt: skip
