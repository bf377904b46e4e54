"""A network's step as a list of kernel calls on kept arrays, for one shape of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from condense_core.fast.layout import Array, Layout, layout_of

from .calls import Calls
from .dense_block import DenseBlock
from .ends import Head, Stem
from .features import Features
from .network import Network
from .transitions import Compressing, Pooling


class Program:
    """The forward pass of a network for images (N, 3, H, H), and in training the backward pass."""

    def __init__(self, network: Network, images: int, size: int, training: bool):
        first = layout_of(images, *2 * [(size - 1) // network.stem.stride + 1])
        features = list(_features(network, first))
        self._stem, self._head = Stem(network, features[0], size), Head(network, features[-1])
        parts = [self._stem, *_parts(network, features, training), self._head]
        self._calls = Calls(training)
        network.packing.pack(self._calls)
        for part in parts:
            part.forward(self._calls)
        if training:
            for part in reversed(parts):
                part.backward(self._calls)
            network.packing.collect_norms(self._calls)

    @property
    def kernels(self) -> list[tuple[Callable[..., object], tuple[Any, ...]]]:
        """The kernels that a step calls, with their arguments."""
        return self._calls.kernels

    def logits(self, images: Tensor) -> Array:
        """Return the logits (N, K) of images."""
        self._run(images)
        return self._head.logits.T.copy()

    def loss(self, images: Tensor, labels: Tensor) -> tuple[float, int]:
        """Return the mean cross-entropy of a batch and the number of wrong answers; write all gradients."""
        np.copyto(self._head.labels, labels.numpy())
        self._run(images)
        loss, wrong = self._head.answer
        return float(loss), int(wrong)

    def _run(self, images: Tensor) -> None:
        np.copyto(self._stem.images, images.numpy())
        self._calls.run()


class Part(Protocol):
    """A part of a network, which adds its calls to a program."""

    def forward(self, calls: Calls) -> None:
        """Add the forward pass."""

    def backward(self, calls: Calls) -> None:
        """Add the backward pass; those of all later parts come before."""


def _features(network: Network, layout: Layout) -> Iterator[Features]:
    """Yield the features of every block, whose resolutions are halved one after the other."""
    for number, layers in enumerate(network.blocks):
        yield Features(network.buffers, number, layout, layers[-1].out_channels)
        layout = layout_of(layout.images, layout.height // 2, layout.width // 2)


def _parts(network: Network, features: Sequence[Features], training: bool) -> Iterator[Part]:
    """Yield the blocks and the transitions between them."""
    buffers = network.buffers
    for number, (layers, own) in enumerate(zip(network.blocks, features, strict=True)):
        if number:
            compression, before = network.transitions[number - 1], features[number - 1]
            if compression is None:
                yield Pooling(before, own, buffers)
            else:
                yield Compressing(compression, before, own, buffers)
        yield DenseBlock(layers, own, buffers, f"block {number}", keeps=training)
