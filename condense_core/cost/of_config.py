"""The cost of a configuration, counted from its sizes alone, without torch: a study asks for dozens."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from condense_core.config import CLASSIFIER_CONDENSE_FACTOR, ModelConfig
from condense_core.stages import kept_inputs, layer_stage
from condense_core.tables import LEARNED, SINGLE_WEIGHTS

from .table import CostTable, LayerCost


@lru_cache(maxsize=4096)
def cost_of_config(config: ModelConfig, stage: int) -> CostTable:
    """Count the layers of a configuration in `stage`."""
    return CostTable(tuple(_layers(config, stage)))


def _layers(config: ModelConfig, stage: int) -> Iterator[LayerCost]:
    """The layers of `CondenseNet` in `stage`, in the order in which they run."""
    size = (config.image_size - 1) // config.stride + 1
    channels = 2 * config.growth[0]
    yield _conv3x3("stem", 3, channels, 1, size)
    for block, (layers, rate) in enumerate(zip(config.stages, config.growth, strict=True)):
        if block:
            name, before = f"blocks.transition{block}", size
            if config.connectivity == "block":
                reduced = config.transition_channels(channels)
                yield from _norm_relu(name, "", channels, size)
                yield _conv1x1(f"{name}.conv", channels, reduced, size, config, stage)
                channels = reduced
            size //= 2
            yield _pool(f"{name}.pool", channels, before, size)
        for layer in range(layers):
            name, width = f"blocks.block{block + 1}.{layer}", config.bottleneck * rate
            yield from _norm_relu(name, "1", channels, size)
            yield _conv1x1(f"{name}.conv1", channels, width, size, config, stage)
            yield from _norm_relu(name, "2", width, size)
            yield _conv3x3(f"{name}.conv2", width, rate, config.groups_3x3, size)
            channels += rate
    yield from _norm_relu("", "", channels, size)
    yield _pool("pool", channels, size, 1)
    yield _classifier(channels, config, stage)


def _conv3x3(name: str, inputs: int, outputs: int, groups: int, size: int) -> LayerCost:
    weights = 9 * inputs * outputs // groups
    macs = weights * size**2
    return LayerCost(name, "conv3x3", inputs, outputs, groups, size, macs, macs, weights)


def _conv1x1(name: str, inputs: int, outputs: int, size: int, config: ModelConfig, stage: int) -> LayerCost:
    factor, groups, reached = config.condense_factor, config.groups, config.condense_factor - 1
    if config.grouping in LEARNED:  # groups that are given keep the last stage's share from the start
        reached = layer_stage(stage, config.last_stage, factor)
    if config.grouping in SINGLE_WEIGHTS:
        groups = outputs
    weights = kept_inputs(inputs, factor, reached) * outputs
    macs = weights * size**2
    return LayerCost(name, "conv1x1", inputs, outputs, groups, size, macs, macs, weights)


def _norm_relu(parent: str, place: str, channels: int, size: int) -> Iterator[LayerCost]:
    prefix = f"{parent}." if parent else ""
    yield LayerCost(f"{prefix}norm{place}", "norm", channels, channels, 1, size, 0, 0, 2 * channels)
    yield LayerCost(f"{prefix}relu{place}", "relu", channels, channels, 1, size, 0, channels * size**2, 0)


def _pool(name: str, channels: int, before: int, after: int) -> LayerCost:
    flops = channels * after**2 * (before // after) ** 2
    return LayerCost(name, "pool", channels, channels, 1, after, 0, flops, 0)


def _classifier(inputs: int, config: ModelConfig, stage: int) -> LayerCost:
    kept, classes = inputs, config.num_classes
    if config.classifier_pruning:
        reached = layer_stage(stage, config.last_stage, CLASSIFIER_CONDENSE_FACTOR)
        kept = kept_inputs(inputs, CLASSIFIER_CONDENSE_FACTOR, reached)
    macs, params = kept * classes, kept * classes + classes
    return LayerCost("classifier", "linear", inputs, classes, 1, 1, macs, params, params)
