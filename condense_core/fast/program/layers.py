"""The layers of a network as kernels take them: views of their tensors, and the places of packed weights.

A place is the number of a parameter's element; see `parameters`. A matrix of places is (groups, outputs of a
group, inputs that they read).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from condense_core.fast.kernels import descent
from condense_core.fast.layout import Array
from condense_core.grouping import MaskedConv, live_weights

from .calls import Calls
from .parameters import ZERO, Parameters

LANES = 8  # in which kernels sum up the gradient of a weight


class Norm:
    """A batch norm: its parameters and running statistics, and what kernels write of it.

    affine (5, C) as kernels read it; sums (2, C): Σg and Σg·x̂, the gradients of its shift and scale.
    """

    sums: Array

    def __init__(self, norm: Any, parameters: Parameters):
        self.gamma, self.beta = parameters.of(norm.weight)[0], parameters.of(norm.bias)[0]
        self.places = np.stack([parameters.places(norm.bias), parameters.places(norm.weight)])
        self.running = norm.running_mean.numpy(), norm.running_var.numpy()
        self.tracked = norm.num_batches_tracked.view(1).numpy()
        self.momentum, self.epsilon = norm.momentum, norm.eps
        self.affine = np.empty((5, len(self.gamma)), self.gamma.dtype)


class Convolution:
    """The weights of a convolution, packed for the forward and the backward pass, and their gradients' sums."""

    packed: Array
    transposed: Array
    lanes: Array

    def __init__(
        self, parameters: Parameters, matrix: Array, forward: Array, backward: Array, tile: tuple[int, int]
    ):
        """Take the places of the weights as a matrix and as the passes read them; `tile` is that of `dots`."""
        cells, self.lanes_shape = _cells(matrix.shape, *tile)
        live = matrix != ZERO
        self.forward, self.backward, self._gradients = forward, backward, parameters.gradients
        order = cells[live].argsort()  # lanes are read one after the other
        self._cells, self._places = (own[live][order].astype(np.int32) for own in (cells, matrix))

    def collect(self, calls: Calls) -> None:
        """Write the gradients, and set the lanes to 0 for the next convolution."""
        calls.add(descent.collect, self.lanes.reshape(-1, LANES), self._cells, self._places, self._gradients)


class Pointwise(Convolution):
    """A 1×1 convolution: the inputs and outputs of each group; one group if nothing is pruned by groups.

    index (G, K), padded_index to a multiple of 4; rows (G, M) of its outputs, −1 for none.
    """

    def __init__(self, conv: nn.Module, parameters: Parameters):
        assert isinstance(conv, nn.Conv2d)
        places = parameters.places(conv.weight).reshape(conv.out_channels, -1)
        index, rows = np.arange(places.shape[1])[None], np.arange(len(places))[None]
        if isinstance(conv, MaskedConv) and not conv.mask.all():
            if len(conv.mask.sum(1).unique()) > 1:  # single weights are pruned
                places = np.where(live_weights(conv).flatten(1).numpy(), places, ZERO)
            else:
                index = conv.mask.nonzero()[:, 1].view(conv.groups, -1).numpy()
                rows = np.arange(len(places)).reshape(-1, conv.groups).T
                if not conv.permute:
                    rows = np.arange(len(places)).reshape(conv.groups, -1)
        self.out_channels = conv.out_channels
        self.index, self.padded_index = np.ascontiguousarray(index), _filled(index, (1, 4), 0)
        self.rows = _filled(rows, (1, 4), -1)
        matrix = places[rows[:, :, None], index[:, None, :]]
        backward = _in_rows(_filled(matrix, (1, 4, 1)).swapaxes(1, 2), 4)
        super().__init__(parameters, matrix, _in_rows(matrix, 4), backward, (4, 2))


class Spatial(Convolution):
    """A 3×3 convolution in groups."""

    def __init__(self, conv: Any, parameters: Parameters):
        self.groups, self.out_channels = conv.groups, conv.out_channels
        self.outputs, self.inputs = conv.out_channels // conv.groups, conv.in_channels // conv.groups
        places = parameters.places(conv.weight).reshape(conv.groups, self.outputs, self.inputs, 9)
        matrix = places.reshape(conv.groups, self.outputs, -1)
        taps = places[..., ::-1].swapaxes(1, 2).reshape(conv.groups, self.inputs, -1)
        rows = 2 if self.outputs <= 2 else 4  # few outputs fill registers of 2
        super().__init__(parameters, matrix, _in_rows(matrix, rows), _in_rows(taps, 4), (2, 4))


class Stem(Convolution):
    """The first 3×3 convolution, as a 1×1 convolution of patches."""

    def __init__(self, conv: nn.Conv2d, parameters: Parameters):
        self.out_channels, self.stride = conv.out_channels, conv.stride[0]
        matrix = parameters.places(conv.weight).reshape(1, conv.out_channels, -1)
        super().__init__(parameters, matrix, _in_rows(matrix, 4), np.empty(0, int), (4, 2))


class Compression:
    """A transition's batch norm and 1×1 convolution."""

    def __init__(self, transition: Any, parameters: Parameters):
        self.norm = Norm(transition.norm, parameters)
        self.pointwise = Pointwise(transition.conv, parameters)


class DenseLayer:
    """Batch norm, 1×1 convolution, batch norm, 3×3 convolution."""

    def __init__(self, layer: Any, parameters: Parameters):
        self.first, self.second = Norm(layer.norm1, parameters), Norm(layer.norm2, parameters)
        self.pointwise, self.spatial = Pointwise(layer.conv1, parameters), Spatial(layer.conv2, parameters)
        self.out_channels = len(self.first.gamma) + self.spatial.out_channels  # with those that it reads


def _filled(array: Array, multiples: tuple[int, ...], value: int = ZERO) -> Array:
    """Fill up each axis to a multiple."""
    missing = [(0, -size % multiple) for size, multiple in zip(array.shape, multiples, strict=True)]
    filled = np.pad(array, missing, constant_values=value)
    return np.ascontiguousarray(filled)  # kernels are compiled for this order


def _in_rows(matrix: Array, rows: int) -> Array:
    """Arrange a matrix as micro-kernels read it: (G, M, K) → (G, M / rows, K, rows)."""
    filled = _filled(matrix, (1, rows, 1))
    return filled.reshape(len(matrix), -1, rows, matrix.shape[2]).swapaxes(2, 3)


def _cells(shape: tuple[int, ...], rows: int, columns: int) -> tuple[Array, tuple[int, ...]]:
    """Number the cells of a matrix as `dots` takes them, tile by tile; return also the shape of their lanes.

    The inputs fill up to a multiple of 4, which kernels work on.
    """
    groups, outputs, inputs = shape[0], -(-shape[1] // rows), -(-shape[2] // 4) * (4 // columns)
    tiles = groups, outputs, inputs, rows, columns
    cells = np.arange(np.prod(tiles)).reshape(tiles).swapaxes(2, 3)
    return cells.reshape(groups, outputs * rows, -1)[:, : shape[1], : shape[2]], (*tiles, LANES)
