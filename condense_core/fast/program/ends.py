"""The two ends of a network in a program: the stem, and the head with the loss."""

from __future__ import annotations

import numpy as np

from condense_core.fast.kernels import head, stem

from .calls import Calls
from .features import Features
from .network import Network


class Stem:
    """The first convolution, of images that are copied between borders of zeros."""

    def __init__(self, network: Network, after: Features, size: int):
        self._conv, self._after = network.stem, after
        layout = after.layout
        inner = layout.images if layout.by_pixel else 1
        self._planes = np.zeros((layout.images // inner, 3, size + 2, size + 2, inner), after.array.dtype)
        inside = self._planes[:, :, 1:-1, 1:-1]
        self.images = inside[0].transpose(3, 0, 1, 2) if layout.by_pixel else inside[..., 0]

    def forward(self, calls: Calls) -> None:
        """Write the first features."""
        conv, layout = self._conv, self._after.layout
        arrays = self._planes, conv.stride, layout.width, conv.packed, self._after.array
        calls.share(stem.stem, len(layout.tile_sizes), *arrays, conv.out_channels)
        self._after.take_moments(calls, conv.out_channels)

    def backward(self, calls: Calls) -> None:
        """Take the features' gradients to the weights."""
        conv, layout = self._conv, self._after.layout
        arrays = self._planes, conv.stride, layout.width, self._after.raw
        calls.share(
            stem.stem_backward, len(layout.tile_sizes), *arrays, conv.out_channels, summed=(conv.lanes,)
        )
        conv.collect(calls)


class Head:
    """Batch norm, ReLU, mean over the pixels, linear layer and cross-entropy."""

    def __init__(self, network: Network, before: Features):
        self._network, self._before = network, before
        count, dtype = before.layout.images, before.array.dtype
        classes, channels = network.weight.shape
        self._means, self._dmeans = np.empty((2, channels, count), dtype)
        self.logits, self._dlogits = np.empty((2, classes, count), dtype)
        self.labels = np.zeros(count, np.int64)
        self.answer = np.zeros(2)  # loss, wrong answers

    def forward(self, calls: Calls) -> None:
        """Compute the logits."""
        network, before = self._network, self._before
        before.normalise(calls, network.norm)
        calls.add(head.mean_features, before.layout.lines_of(before.array), network.norm.affine, self._means)
        calls.add(head.classify, self._means, network.weight, network.bias, self.logits)

    def backward(self, calls: Calls) -> None:
        """Compute the loss, and take its gradient to the features and to the weights."""
        network, before = self._network, self._before
        calls.add(head.cross_entropy, self.logits, self.labels, self._dlogits, self.answer)
        gradients = network.dweight, network.dbias, self._dmeans
        calls.add(head.classify_backward, self._means, self._dlogits, network.weight, *gradients)
        if network.live is not None:
            calls.add(np.multiply, network.dweight, network.live, network.dweight)
        before.clear(calls)
        layout = before.layout
        arrays = layout.lines_of(before.array), network.norm.affine, self._dmeans, layout.lines_of(before.inner)
        calls.add(head.mean_features_backward, *arrays, *network.norm.sums)
        before.add_sums(calls, network.norm)
