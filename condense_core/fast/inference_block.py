"""The fast execution of condensed dense blocks on the CPU: the numbers of the reference, in one call per block.

The block writes into one buffer, batch norms and biases are part of the products next to them, and the hidden
features between the 1×1 and the 3×3 convolution of a layer stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .conditions import can_run, has_hooks, is_known_norm
from .kernels import condensed_block, tiles
from .layout import NUMBERS, Array, empty
from .threads import share
from .watched import Engine

MIN_SHARED = 1_000_000  # products: fewer take less time than threads take to start
KNOWN_PARTS = {"index", "norm1", "relu1", "dropout", "conv1", "norm2", "shuffle", "relu2", "conv2"}


@dataclass(frozen=True)
class Layer:
    """A layer as the kernels read it: sizes, and arrays, which `assemble` flattens into those of a block.

    inputs (G, K), rows (G, M): the hidden feature that each output of a group becomes; norm (2, G·K): scale and
    shift of the inputs; weight (G, M / 4, K, 4); bias (hidden,); taps (G₃, outputs / R, 9·I₃, R).
    """

    inputs: Array
    rows: Array
    norm: Array
    weight: Array
    bias: Array
    taps: Array
    outputs: int  # of a group of the 3×3 convolution; zeros fill up its registers

    @property
    def growth_rate(self) -> int:
        """Features that the layer makes."""
        return len(self.taps) * self.outputs


def read_layer(layer: nn.Module, channels: int, choice: str) -> Layer:
    """Read a condensed layer whose input has `channels` features, to be computed as chosen.

    One that was trained on after it was condensed is grouped whatever is chosen, if its groups scale the same
    input differently.
    """
    parts: dict[str, Any] = layer._modules
    conv, norm, spatial = parts["conv1"], parts["norm1"], parts["conv2"]
    if "norm2" in parts:
        conv = fuse_conv_bn_eval(conv, parts["norm2"])
    inputs = parts["index"].index.numpy() if "index" in parts else np.arange(conv.in_channels)
    inputs = inputs.reshape(conv.groups, -1)
    rows = np.arange(conv.out_channels).reshape(conv.groups, -1)
    if "shuffle" in parts:
        rows = np.arange(conv.out_channels).reshape(-1, conv.groups).T
    weight = numbers_of(conv.weight).reshape(*rows.shape, -1)
    affine, bias = affine_of(norm), np.zeros(rows.size)
    if conv.bias is not None:
        bias[rows.ravel()] = numbers_of(conv.bias)
    if choice != "grouped" and _scale_alike(inputs, affine):
        inputs, rows, affine, weight = _as_one_group(
            inputs, rows, affine, weight, np.unique(inputs) if choice == "union" else np.arange(channels)
        )
    groups, outputs = spatial.groups, spatial.out_channels // spatial.groups
    return Layer(
        inputs,
        np.pad(rows, [(0, 0), (0, -rows.shape[1] % 4)], constant_values=-1),
        affine,
        packed(weight, 4),
        bias,
        packed(numbers_of(spatial.weight).reshape(groups, outputs, -1), 2 if outputs <= 2 else 4),
        outputs,
    )


def packed(weight: Array, rows: int) -> Array:
    """Pack weights (G, M, K) as the kernels read them: (G, M / rows, K, rows), M filled up with zeros."""
    filled = np.pad(weight, [(0, 0), (0, -weight.shape[1] % rows), (0, 0)])
    return filled.reshape(len(weight), -1, rows, weight.shape[2]).swapaxes(2, 3)


def numbers_of(tensor: Tensor) -> Array:
    """Return the numbers of a tensor as float64."""
    return tensor.detach().double().numpy()


def affine_of(norm: Any) -> Array:
    """Return scale and shift of a batch norm in evaluation mode: (2, C)."""
    scale = numbers_of(norm.weight) / np.sqrt(numbers_of(norm.running_var) + norm.eps)
    return np.stack([scale, numbers_of(norm.bias) - numbers_of(norm.running_mean) * scale])


def _scale_alike(inputs: Array, affine: Array) -> bool:
    """Return whether all groups that read an input apply the same scale and shift to it."""
    _, first, place = np.unique(inputs.ravel(), return_index=True, return_inverse=True)
    return bool((affine[:, first[place]] == affine).all())


def _as_one_group(
    inputs: Array, rows: Array, affine: Array, weight: Array, read: Array
) -> tuple[Array, Array, Array, Array]:
    """Return the layer as one group that reads the inputs `read`, with weights of 0 where its group did not."""
    whole, scales = np.zeros((1, rows.size, len(read))), np.zeros((2, len(read)))
    place = np.searchsorted(read, inputs)
    whole[0, rows[:, :, None], place[:, None]] = weight
    scales[:, place.ravel()] = affine
    return read[None], np.arange(rows.size)[None], scales, whole


@dataclass(frozen=True)
class Program:
    """A block as `condensed_block.dense_block` reads it: a table with one row per layer, and flat arrays."""

    table: Array
    numbers: Array
    places: Array
    channels: int  # of its result


def assemble(layers: Iterable[Layer], channels: int, dtype: torch.dtype) -> Program:
    """Return the program of some layers, the first of which reads `channels` features."""
    table, numbers, places = [], [np.zeros(0)], [np.zeros(0, np.int64)]

    def put(arrays: list[Array], array: Array) -> int:
        """Append an array, and return where it starts."""
        arrays.append(array.ravel())
        return sum(map(len, arrays[:-1]))

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


def is_known_layer(layer: nn.Module) -> bool:
    """Return whether kernels can compute a layer: its modules, which have no hooks."""
    parts: dict[str, Any] = layer._modules
    convolutions = all(type(parts.get(name)) is nn.Conv2d for name in ("conv1", "conv2"))
    relus = all(type(parts.get(name)) is nn.ReLU for name in ("relu1", "relu2"))
    norms = [part for part in parts.values() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    known = parts.keys() <= KNOWN_PARTS and convolutions and relus and "norm1" in parts
    known = known and all(type(norm) is nn.BatchNorm2d and is_known_norm(norm) for norm in norms)
    return known and not has_hooks(layer)


class InferenceEngine(Engine):
    """Computes a condensed block."""

    def run(self, block: nn.Module, x: Tensor, choices: Sequence[str] = ()) -> Tensor | None:
        """(N, in, H, W) → (N, in + layers · growth_rate, H, W), or None if the reference must compute it.

        Without choices it must.
        """
        steps = self.program(block, x, choices) if choices else None
        return None if steps is None else run(steps, x)

    def program(self, block: nn.Module, x: Tensor, choices: Sequence[str]) -> Program | None:
        """Return the program of a block by some choices; None if kernels cannot compute it as it is now."""
        if not self.can_compute(block, x):
            return None
        key = x.dtype, *choices
        if key not in self._programs:
            self._programs[key] = assemble(read_layers(block, choices, x.shape[1]), x.shape[1], x.dtype)
        return self._programs[key]

    def can_compute(self, module: nn.Module, x: Tensor) -> bool:
        """Return False also for what kernels cannot read."""
        return can_run(x) and super().can_compute(module, x)

    def knows(self, module: nn.Module) -> bool:
        """Return whether kernels can compute all layers; hooks of the block itself are called around it."""
        return all(is_known_layer(layer) for layer in module.children())


def read_layers(block: nn.Module, choices: Sequence[str], channels: int) -> list[Layer]:
    """Read the layers of a condensed block, each as chosen for it, after `channels` input features."""
    layers: list[Layer] = []
    for layer, choice in zip(block.children(), choices, strict=True):
        layers.append(read_layer(layer, channels, choice))
        channels += layers[-1].growth_rate
    return layers


@dataclass(frozen=True)
class LayerChoices:
    """A layer of a condensed block, and a call that computes it for each way in which it can be computed."""

    in_channels: int
    kept: int  # inputs of a group
    calls: Mapping[str, Callable[[], None]]


def layers_by_choice(block: nn.Module, x: Tensor, choices: Iterable[str]) -> list[LayerChoices] | None:
    """Return the layers of a condensed block on `x`, or None if the kernels cannot compute it (to measure)."""
    steps = InferenceEngine().program(block, x, ["grouped"] * len(list(block.children())))
    if steps is None:
        return None
    out, channels, found = run(steps, x), x.shape[1], []
    for layer in block.children():
        read = {choice: read_layer(layer, channels, choice) for choice in choices}
        calls = {
            choice: partial(append, assemble([one], channels, x.dtype), out) for choice, one in read.items()
        }
        grouped = read["grouped"]
        found.append(LayerChoices(channels, grouped.inputs.shape[1], calls))
        channels += grouped.growth_rate
    return found


def run(steps: Program, x: Tensor) -> Tensor:
    """(N, in, H, W) → (N, in + layers · growth_rate, H, W), the input and then the layers' features."""
    out = empty(len(x), steps.channels, *x.shape[2:], dtype=x.dtype)
    out[:, : x.shape[1]] = x
    append(steps, out)
    return out


def append(steps: Program, out: Tensor) -> None:
    """Let the layers append their features to those they read, all in `out` (N, C, H, W).

    Threads share the chunks of images; if there are too few chunks, they share each: rows of large images, and
    outputs of small ones.
    """
    count, _, height, width = out.shape
    small = count * height * width * len(steps.numbers) < MIN_SHARED
    threads = 1 if small else min(torch.get_num_threads(), height)
    images_per_chunk = min(tiles.cut(height * width)[0], -(-count // threads))
    chunks = -(-count // images_per_chunk)
    features = out.numpy().reshape(count, -1, height * width)
    arrays = features, height, width, steps.table, steps.numbers, steps.places, images_per_chunk
    alone = np.zeros((1, 1), features.dtype), np.zeros((1, 1), np.int64), 1, 0, True
    if threads == 1:
        condensed_block.dense_block(*arrays, *alone, 0, chunks)
    elif chunks >= threads:
        share(condensed_block.dense_block, chunks, *arrays, *alone)
    else:
        by_rows = height * width > condensed_block.BAND
        hidden = steps.table[:, condensed_block.HIDDEN].max()
        plane = 1 if by_rows else tiles.plane_size(images_per_chunk, height, width)
        shared = np.zeros((hidden, plane), features.dtype)
        met = np.zeros((chunks, 2 * len(steps.table)), np.int64)
        share(condensed_block.in_threads, threads, *arrays, shared, met, threads, by_rows)
