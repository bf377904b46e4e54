"""What kernels read and write of a network's weights, each kind in one array, which one call fills."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from condense_core.fast.kernels import descent
from condense_core.fast.layout import Array

from .layers import Convolution, Norm
from .parameters import Parameters


class Packing:
    """The packed weights of convolutions and the sums for the gradients of all layers."""

    def __init__(self, parameters: Parameters, convolutions: Sequence[Convolution], norms: Sequence[Norm]):
        self._parameters, self._norms = parameters, norms
        places = [own for conv in convolutions for own in (conv.forward, conv.backward)]
        self._places = np.concatenate([own.ravel() for own in places])
        self._packed = np.empty(len(self._places), parameters.values.dtype)
        packed = iter(_cut(self._packed, [own.shape for own in places]))
        shapes = [conv.lanes_shape for conv in convolutions]
        self._lanes = np.empty(sum(map(_size, shapes)), parameters.values.dtype)
        for conv, lanes in zip(convolutions, _cut(self._lanes, shapes), strict=True):
            conv.packed, conv.transposed, conv.lanes = next(packed), next(packed), lanes
        before = np.cumsum([0, *map(_size, shapes)]) // shapes[0][-1]
        self._cells = np.concatenate(
            [first + conv.cells for first, conv in zip(before, convolutions, strict=False)]
        )
        self._live = np.concatenate([conv.live for conv in convolutions])
        self._norm_places = np.concatenate([norm.places.ravel() for norm in norms])
        self._sums = np.empty(len(self._norm_places))
        for norm, sums in zip(norms, _cut(self._sums, [norm.places.shape for norm in norms]), strict=True):
            norm.sums = sums

    def pack(self) -> None:
        """Pack the weights of all convolutions as they are now."""
        np.take(self._parameters.values, self._places, out=self._packed, mode="wrap")

    def clear(self) -> None:
        """Set the sums of the backward pass to 0."""
        self._lanes[:] = 0
        self._sums[:] = 0

    def collect(self) -> None:
        """Write the gradients of convolutions and norms from the sums of the backward pass."""
        lanes = self._lanes.reshape(-1, 8)
        gradients = self._parameters.gradients
        descent.collect(lanes, self._cells, self._live, self._sums, self._norm_places, gradients)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _cut(array: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Cut an array into views of these shapes, one after the other."""
    ends = np.cumsum([_size(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(array, ends[:-1]), shapes, strict=True)]
