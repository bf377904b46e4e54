"""The cost of a configuration, counted from its sizes alone, without torch: a study asks for dozens."""

from __future__ import annotations

from functools import lru_cache

from condense_core.config import ModelConfig
from condense_core.stages import kept_in_stage
from condense_core.tables import GROUPINGS, LEARNED, Grouping
from condense_core.topology import LayerShape, layers

from .table import CostTable, LayerCost


def cost_of_config(config: ModelConfig, stage: int) -> CostTable:
    """Count the layers of a configuration in `stage`, with the grouping that its name has now."""
    return _counted(config, stage, GROUPINGS[config.grouping])


@lru_cache(maxsize=4096)
def _counted(config: ModelConfig, stage: int, _: Grouping) -> CostTable:
    return CostTable(tuple(_cost(layer, config, stage) for layer in layers(config)))


def _cost(layer: LayerShape, config: ModelConfig, stage: int) -> LayerCost:
    macs, flops_paper, params = _counts(layer, config, stage)
    channels = layer.in_channels, layer.out_channels, layer.groups
    return LayerCost(layer.name, layer.kind, *channels, layer.size, macs, flops_paper, params)


def _counts(layer: LayerShape, config: ModelConfig, stage: int) -> tuple[int, int, int]:
    """Return macs, flops_paper and params."""
    inputs, outputs, pixels = layer.in_channels, layer.out_channels, layer.size**2
    match layer.kind:
        case "conv3x3":
            weights = 9 * inputs * outputs // layer.groups
            return weights * pixels, weights * pixels, weights
        case "conv1x1":
            how = layer.condense_factor, stage, config.last_stage, config.grouping in LEARNED
            weights = kept_in_stage(inputs, *how) * outputs
            return weights * pixels, weights * pixels, weights
        case "norm":
            return 0, 0, 2 * inputs
        case "relu":
            return 0, inputs * pixels, 0
        case "pool":
            window = (layer.input_size // layer.size) ** 2
            return 0, outputs * pixels * window, 0
        case "linear":
            how = layer.condense_factor, stage, config.last_stage, True
            weights = kept_in_stage(inputs, *how) * outputs
            return weights, weights + outputs, weights + outputs
