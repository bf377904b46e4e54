"""The topology of a CondenseNet (paper Sec. 3.3): one walk over its parts and layers, counted without torch.

The network is built from `parts`. Its cost, the maps of its connections and the reader of official checkpoints
follow the same walk, so that names and channels are decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from .config import CLASSIFIER_CONDENSE_FACTOR, ModelConfig
from .tables import SINGLE_WEIGHTS

Kind = Literal["conv3x3", "conv1x1", "norm", "relu", "pool", "linear"]


@dataclass(frozen=True)
class BlockShape:
    """A dense block: every dense layer reads the input and the outputs of all layers before it."""

    name: str
    in_channels: int
    condense_factors: tuple[int, ...]  # of the layers' 1×1 convolutions
    growth_rate: int  # outputs of a dense layer
    width: int  # outputs of its 1×1 convolution
    size: int  # height and width in pixels

    @property
    def inputs(self) -> range:
        """Channels that each dense layer reads, first to last."""
        return range(self.in_channels, self.out_channels, self.growth_rate)

    @property
    def out_channels(self) -> int:
        """Channels after the block: its input and the output of every layer."""
        return self.in_channels + len(self.condense_factors) * self.growth_rate


@dataclass(frozen=True)
class TransitionShape:
    """The step from one block to the next, at half the resolution; a 1×1 with `condense_factor` comes first."""

    name: str
    in_channels: int
    out_channels: int
    condense_factor: int | None
    input_size: int
    size: int


@dataclass(frozen=True)
class Source:
    """Inputs `start` to `stop` (exclusive) of a layer are the outputs of the convolution `layer`."""

    layer: str
    start: int
    stop: int


@dataclass(frozen=True)
class LayerShape:
    """A layer of the network: its module's name, its channels and groups, and its output's size in pixels.

    `sources` are the convolutions whose outputs it reads; norms, ReLUs and pools pass channels on unchanged,
    so they are not sources. The stem, which reads the image, has none. `condense_factor`: of the inputs.
    """

    name: str
    kind: Kind
    in_channels: int
    out_channels: int
    groups: int
    input_size: int
    size: int
    sources: tuple[Source, ...]
    condense_factor: int = 1


def parts(config: ModelConfig) -> Iterator[BlockShape | TransitionShape]:
    """Yield the dense blocks and the transitions between them, from the stem to the classifier."""
    channels, size = 2 * config.growth[0], (config.image_size - 1) // config.stride + 1
    factors = iter(config.layer_factors)
    for number, (layers, rate) in enumerate(zip(config.stages, config.growth, strict=True), start=1):
        if number > 1:
            factor = next(factors) if config.connectivity == "block" else None
            reduced = config.transition_channels(channels) if factor else channels
            yield TransitionShape(f"transition{number - 1}", channels, reduced, factor, size, size // 2)
            channels, size = reduced, size // 2
        own, width = tuple(islice(factors, layers)), config.bottleneck * rate
        block = BlockShape(f"block{number}", channels, own, rate, width, size)
        yield block
        channels = block.out_channels


def layers(config: ModelConfig) -> Iterator[LayerShape]:
    """Yield every layer of the network in the order of execution.

    >>> for layer in layers(ModelConfig(stages=(1,), growth=(8,))):
    ...     print(layer.name, layer.kind, layer.in_channels, layer.out_channels)
    stem conv3x3 3 16
    blocks.block1.0.norm1 norm 16 16
    blocks.block1.0.relu1 relu 16 16
    blocks.block1.0.conv1 conv1x1 16 32
    blocks.block1.0.norm2 norm 32 32
    blocks.block1.0.relu2 relu 32 32
    blocks.block1.0.conv2 conv3x3 32 8
    norm norm 24 24
    relu relu 24 24
    pool pool 24 24
    classifier linear 24 10
    """
    network = list(parts(config))
    first, last = network[0], network[-1]
    yield LayerShape("stem", "conv3x3", 3, first.in_channels, 1, config.image_size, first.size, ())
    features = _append((), "stem", first.in_channels)
    for part in network:
        if isinstance(part, BlockShape):
            for number, factor in enumerate(part.condense_factors):
                name = f"blocks.{part.name}.{number}"
                yield from _dense_layer(name, features, part, factor, config)
                features = _append(features, f"{name}.conv2", part.growth_rate)
        else:
            yield from _transition(part, features, config)
            if part.condense_factor:
                features = _append((), f"blocks.{part.name}.conv", part.out_channels)
    yield from _norm_relu("norm", "relu", features, last.size)
    yield _pass_on("pool", "pool", features, last.size, 1)
    factor, sizes = CLASSIFIER_CONDENSE_FACTOR if config.classifier_pruning else 1, (1, 1, 1)
    yield LayerShape("classifier", "linear", last.out_channels, config.num_classes, *sizes, features, factor)


Features = tuple[Source, ...]  # what is read at a place in the network, in the order of its channels


def _append(features: Features, layer: str, channels: int) -> Features:
    start = features[-1].stop if features else 0
    return *features, Source(layer, start, start + channels)


def _dense_layer(
    name: str, features: Features, block: BlockShape, factor: int, config: ModelConfig
) -> Iterator[LayerShape]:
    width, rate, groups, size = block.width, block.growth_rate, config.groups_3x3, block.size
    yield from _norm_relu(f"{name}.norm1", f"{name}.relu1", features, size)
    yield _conv1x1(f"{name}.conv1", features, width, size, factor, config)
    inside = _append((), f"{name}.conv1", width)
    yield from _norm_relu(f"{name}.norm2", f"{name}.relu2", inside, size)
    yield LayerShape(f"{name}.conv2", "conv3x3", width, rate, groups, size, size, inside)


def _transition(shape: TransitionShape, features: Features, config: ModelConfig) -> Iterator[LayerShape]:
    name, size = f"blocks.{shape.name}", shape.input_size
    if shape.condense_factor:
        yield from _norm_relu(f"{name}.norm", f"{name}.relu", features, size)
        yield _conv1x1(f"{name}.conv", features, shape.out_channels, size, shape.condense_factor, config)
        features = _append((), f"{name}.conv", shape.out_channels)
    yield _pass_on(f"{name}.pool", "pool", features, size, shape.size)


def _conv1x1(
    name: str, features: Features, outputs: int, size: int, factor: int, config: ModelConfig
) -> LayerShape:
    groups = outputs if config.grouping in SINGLE_WEIGHTS else config.groups  # every output has its own inputs
    return LayerShape(name, "conv1x1", features[-1].stop, outputs, groups, size, size, features, factor)


def _norm_relu(norm: str, relu: str, features: Features, size: int) -> Iterator[LayerShape]:
    yield _pass_on(norm, "norm", features, size, size)
    yield _pass_on(relu, "relu", features, size, size)


def _pass_on(name: str, kind: Kind, features: Features, input_size: int, size: int) -> LayerShape:
    """A layer that keeps its channels."""
    channels = features[-1].stop
    return LayerShape(name, kind, channels, channels, 1, input_size, size, features)
