"""The fast execution of condensed dense blocks on the CPU: the numbers of the reference, in one call a block.

The block writes into one buffer, batch norms and biases are part of the products around them, and what a layer
hides between its 1×1 and its 3×3 convolution stays in the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .layout import NUMBERS, empty
from .threads import share
from .training_block import AVAILABLE, Array, can_run, hooks_of

if AVAILABLE:
    from .kernels import condensed_block, tiles

WORTH_SHARING = 1_000_000  # products: fewer take less time than threads take to begin
PARTS = {"index", "norm1", "relu1", "dropout", "conv1", "norm2", "shuffle", "relu2", "conv2"}


@dataclass(frozen=True)
class Layer:
    """A layer as the kernels read it: sizes, and arrays that are flattened into a block's.

    inputs (G, K), rows (G, M): the hidden feature that each output of a group becomes; norm (2, G·K): scale and
    shift of the inputs; weight (G, M / 4, K, 4); bias (hidden,); taps (G₃, outputs / R, 9·I₃, R).
    """

    inputs: Array
    rows: Array
    norm: Array
    weight: Array
    bias: Array
    taps: Array
    outputs: int  # of a group of the 3×3 convolution; the rest of its registers is filled with zeros

    @property
    def growth_rate(self) -> int:
        """Features that the layer makes."""
        return len(self.taps) * self.outputs


def read_layer(layer: nn.Module, channels: int, choice: str) -> Layer:
    """What the kernels need of a condensed layer behind `channels` features."""
    parts: dict[str, Any] = layer._modules
    conv, norm, spatial = parts["conv1"], parts["norm1"], parts["conv2"]
    if "norm2" in parts:
        conv = fuse_conv_bn_eval(conv, parts["norm2"])
    inputs = parts["index"].index.numpy() if "index" in parts else np.arange(conv.in_channels)
    inputs = inputs.reshape(conv.groups, -1)
    rows = np.arange(conv.out_channels).reshape(conv.groups, -1)
    if "shuffle" in parts:
        rows = np.arange(conv.out_channels).reshape(-1, conv.groups).T
    weight = _numbers(conv.weight).reshape(*rows.shape, -1)
    scale = _numbers(norm.weight) / np.sqrt(_numbers(norm.running_var) + norm.eps)
    affine = np.stack([scale, _numbers(norm.bias) - _numbers(norm.running_mean) * scale])
    bias = np.zeros(rows.size)
    if conv.bias is not None:
        bias[rows.ravel()] = _numbers(conv.bias)
    if choice != "grouped":
        inputs, rows, affine, weight = _as_one_group(
            inputs, rows, affine, weight, np.unique(inputs) if choice == "union" else np.arange(channels)
        )
    groups, outputs = spatial.groups, spatial.out_channels // spatial.groups
    return Layer(
        inputs,
        np.pad(rows, [(0, 0), (0, -rows.shape[1] % 4)], constant_values=-1),
        affine,
        _packed(weight, 4),
        bias,
        _packed(_numbers(spatial.weight).reshape(groups, outputs, -1), 2 if outputs <= 2 else 4),
        outputs,
    )


def _packed(weight: Array, rows: int) -> Array:
    """Weights (G, M, K) as the kernels read them: (G, M / rows, K, rows), M filled up with zeros."""
    filled = np.pad(weight, [(0, 0), (0, -weight.shape[1] % rows), (0, 0)])
    return filled.reshape(len(weight), -1, rows, weight.shape[2]).swapaxes(2, 3)


def _numbers(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def _as_one_group(
    inputs: Array, rows: Array, affine: Array, weight: Array, read: Array
) -> tuple[Array, Array, Array, Array]:
    """The same layer as one group that reads the inputs `read`, with weights of 0 where a group did not."""
    whole, scales = np.zeros((1, rows.size, len(read))), np.zeros((2, len(read)))
    place = np.searchsorted(read, inputs)
    whole[0, rows[:, :, None], place[:, None]] = weight
    scales[:, place.ravel()] = affine
    return read[None], np.arange(rows.size)[None], scales, whole


@dataclass(frozen=True)
class Program:
    """What `inference_kernels.dense_block` is told of a block: a row of its table a layer, and flat arrays."""

    table: Array
    numbers: Array
    places: Array
    channels: int  # at the end


def assemble(layers: Iterable[Layer], channels: int, dtype: torch.dtype) -> Program:
    """The program of some layers behind `channels` features."""
    table, numbers, places = [], [np.zeros(0)], [np.zeros(0, np.int64)]

    def put(into: list[Array], array: Array) -> int:
        into.append(array.ravel())
        return sum(map(len, into[:-1]))

    for layer in layers:
        groups, kept = layer.inputs.shape
        table.append([
            channels, groups, kept, layer.rows.shape[1] // 4, len(layer.bias), put(numbers, layer.norm),
            put(numbers, layer.weight), put(numbers, layer.bias), put(places, layer.inputs),
            put(places, layer.rows), len(layer.taps), layer.taps.shape[1], layer.taps.shape[3], layer.outputs,
            put(numbers, layer.taps),
        ])  # fmt: skip
        channels += layer.growth_rate
    return Program(
        np.array(table), np.concatenate(numbers).astype(NUMBERS[dtype]), np.concatenate(places), channels
    )


class _Known:
    """What was read off a block: its parts, where they keep tensors and hooks, and the program made of them."""

    def __init__(self, block: nn.Module, parts: list[nn.Module]):
        self.parts = parts
        self.whole = all(layer._modules.keys() <= PARTS for layer in block.children())
        modules = [*block.children(), *parts]
        self.tensors = [own for m in modules for own in (m._parameters, m._buffers) if own]
        self.hooks = [own for m in modules for own in hooks_of(m)]
        self.state: Any = None
        self.program: Program | None = None


_KNOWN: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def program(block: nn.Module, choices: Sequence[str], x: Tensor) -> Program | None:
    """The program of a condensed block, made anew only where a tensor of it or a choice has changed.

    `choices` has an execution for each layer (`plan.CHOICES`). None where it would not
    compute what the block says of `x`: in training, for gradients, under hooks.
    """
    if not can_run(x) or block.training:
        return None
    layers: Any = block._modules.values()
    parts = [part for layer in layers for part in layer._modules.values()]
    known = _KNOWN.get(block)
    if known is None or known.parts != parts:
        known = _KNOWN[block] = _Known(block, parts)
    tensors = [t for own in known.tensors for t in own.values() if t is not None]
    learns = torch.is_grad_enabled() and (x.requires_grad or any(t.requires_grad for t in tensors))
    if learns or not known.whole or any(known.hooks):
        return None
    state = x.dtype, choices, [(t.data_ptr(), t._version) for t in tensors]
    if known.state != state:
        channels, read = x.shape[1], []
        for layer, choice in zip(block.children(), choices, strict=True):
            read.append(read_layer(layer, channels, choice))
            channels += read[-1].growth_rate
        known.state, known.program = state, assemble(read, x.shape[1], x.dtype)
    return known.program


def run(steps: Program, x: Tensor) -> Tensor:
    """(N, in, H, W) → (N, in + layers · growth_rate, H, W), behind the input what the layers make of it."""
    out = empty(len(x), steps.channels, *x.shape[2:], dtype=x.dtype)
    out[:, : x.shape[1]] = x
    append(steps, out)
    return out


def append(steps: Program, out: Tensor) -> None:
    """Let the layers write their features behind those they read, all in `out` (N, C, H, W)."""
    count, _, height, width = out.shape
    small = count * height * width * len(steps.numbers) < WORTH_SHARING
    threads = 1 if small else min(torch.get_num_threads(), height)
    each = min(tiles.cut(height * width)[0], -(-count // threads))
    chunks = -(-count // each)
    features = out.numpy().reshape(count, -1, height * width)
    arrays = features, height, width, steps.table, steps.numbers, steps.places, each
    alone = np.zeros((1, 1), features.dtype), np.zeros((1, 1), np.int64), 1, 0, True
    if threads == 1:
        condensed_block.dense_block(*arrays, *alone, 0, chunks)
    elif chunks >= threads:
        share(condensed_block.dense_block, chunks, *arrays, *alone)
    else:
        by_rows = height * width > condensed_block.BAND
        hidden = steps.table[:, condensed_block.HIDDEN].max()
        plane = 1 if by_rows else condensed_block.room(each, height, width)
        shared, met = (
            np.zeros((hidden, plane), features.dtype),
            np.zeros((chunks, 2 * len(steps.table)), np.int64),
        )
        share(condensed_block.in_threads, threads, *arrays, shared, met, threads, by_rows)
