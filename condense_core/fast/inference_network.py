"""The fast execution of a whole condensed network on the CPU, in one call: no Python between its layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from condense_core.model import Transition

from .conditions import has_hooks, is_known_norm
from .inference_block import Layer, affine_of, assemble, is_known_layer, numbers_of, packed, read_layers
from .kernels.condensed_network import network
from .layout import NUMBERS, Array
from .threads import share
from .watched import Engine

Choices = Mapping[str, Sequence[str]]
MAX_FEATURES = 1 << 17  # numbers of a block that go through the network at a time: half a megabyte


@dataclass(frozen=True)
class _Program:
    """The arguments of the kernel `network`, but for images and logits."""

    taps: Array
    arrays: tuple[Array, ...]
    images_per_pass: int


class NetworkEngine(Engine):
    """Computes a condensed network whose transitions only pool."""

    def run(self, model: Any, images: Tensor, choices: Choices) -> Tensor:
        """(N, 3, H, W) → logits (N, K), of a network that it can compute."""
        threads = torch.get_num_threads()
        key = images.shape[2:], images.dtype, *chain.from_iterable(choices.values())
        if key not in self._programs:
            self._programs[key] = _program(model, images, choices)
        program = self._programs[key]
        read = images if len(program.taps) else model.stem(images)
        pixels = read.detach().contiguous().numpy().reshape(*read.shape[:2], -1)
        logits = np.empty((len(images), len(program.arrays[-1])), pixels.dtype)
        at_once = min(program.images_per_pass, -(-len(images) // threads))
        passes = -(-len(images) // at_once)
        share(network, passes, pixels, program.taps, *program.arrays, at_once, logits)
        return torch.from_numpy(logits)

    def can_compute(self, module: nn.Module, x: Tensor) -> bool:
        """Return False also for fewer images than threads, which would have nothing to do."""
        return len(x) >= torch.get_num_threads() and super().can_compute(module, x)

    def knows(self, module: Any) -> bool:
        """Return whether kernels can compute all of the network."""
        blocks = [part for part in module.blocks if not isinstance(part, Transition)]
        pools = [list(part.children()) for part in module.blocks if isinstance(part, Transition)]
        kinds = (module.stem, nn.Conv2d), (module.norm, nn.BatchNorm2d), (module.relu, nn.ReLU)
        return (
            all(type(part) is kind for part, kind in kinds)
            and is_known_norm(module.norm)
            and not module.config.dropout
            and not has_hooks(module)
            and all(is_known_layer(layer) for block in blocks for layer in block.children())
            and all(len(parts) == 1 and type(parts[0]) is nn.AvgPool2d for parts in pools)
        )


def _program(model: Any, images: Tensor, choices: Choices) -> _Program:
    height, width = (-(-size // model.config.stride) for size in images.shape[2:])
    channels = model.stem.out_channels
    layers: list[Layer] = []
    parts = []
    for name, block in model.blocks.named_children():
        if isinstance(block, Transition):
            height, width = height // 2, width // 2
            continue
        read = read_layers(block, choices[name], channels)
        made = channels + sum(layer.growth_rate for layer in read)
        parts.append([channels, made, height, width, len(layers), len(layers) + len(read)])
        layers, channels = [*layers, *read], made
    block = assemble(layers, model.stem.out_channels, images.dtype)
    number = NUMBERS[images.dtype]
    largest = max(made * height * width for _, made, height, width, *_ in parts)
    arrays = np.array(parts), block.table, block.numbers, block.places, *_head_of(model, number)
    return _Program(np.ascontiguousarray(_taps(model), number), arrays, max(1, MAX_FEATURES // largest))


def _taps(model: Any) -> Array:
    """Return the weights of the stem (O / 4, 27, 4); none if torch computes it, because it has a stride."""
    if model.config.stride > 1:
        return np.empty((0, 27, 4))
    return packed(numbers_of(model.stem.weight).reshape(1, model.stem.out_channels, -1), 4)[0]


def _head_of(model: Any, number: Any) -> Iterator[Array]:
    """Yield the features that the classifier reads, scale and shift of their norm, weight and bias."""
    index, linear = np.arange(model.norm.num_features), model.classifier
    if not isinstance(linear, nn.Linear):
        index, linear = linear[0].index.numpy(), linear[1]
    yield index
    for own in (affine_of(model.norm)[:, index], numbers_of(linear.weight), numbers_of(linear.bias)):
        yield np.ascontiguousarray(own, number)
