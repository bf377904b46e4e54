"""The packed weights of all convolutions in one array, and the sums for gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from condense_core.fast.kernels import descent
from condense_core.fast.layout import Array

from .calls import Calls
from .layers import Convolution, Norm
from .parameters import Parameters


class Packing:
    """Gives layers their packed weights, and the sums that their backward pass adds to, which are 0 before it.

    All convolutions use the same lanes, one after the other, so that these stay in the cache.
    """

    def __init__(self, parameters: Parameters, convolutions: Sequence[Convolution], norms: Sequence[Norm]):
        self._parameters = parameters
        places = [own for conv in convolutions for own in (conv.forward, conv.backward)]
        self._places = np.concatenate([own.ravel() for own in places]).astype(np.int32)
        self._packed = np.empty(len(self._places), parameters.values.dtype)
        packed = iter(_cut(self._packed, [own.shape for own in places]))
        lanes = np.zeros(max(_size(conv.lanes_shape) for conv in convolutions), parameters.values.dtype)
        for conv in convolutions:
            conv.packed, conv.transposed = next(packed), next(packed)
            conv.lanes = lanes[: _size(conv.lanes_shape)].reshape(conv.lanes_shape)
        self._norm_places = np.concatenate([norm.places.ravel() for norm in norms])
        self._sums = np.zeros(len(self._norm_places))
        for norm, sums in zip(norms, _cut(self._sums, [norm.places.shape for norm in norms]), strict=True):
            norm.sums = sums

    def pack(self, calls: Calls) -> None:
        """Pack the weights of all convolutions as they are now."""
        calls.add(descent.pack, self._parameters.values, self._places, self._packed)

    def collect_norms(self, calls: Calls) -> None:
        """Write the gradients of all norms."""
        calls.add(descent.collect_norms, self._sums, self._norm_places, self._parameters.gradients)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _cut(array: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Cut an array into views of these shapes, one after the other."""
    ends = np.cumsum([_size(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(array, ends[:-1]), shapes, strict=True)]
