"""What a network costs, layer by layer, under two named conventions.

`macs`: multiply-adds of convolutions and linear layers; a masked convolution counts the connections that
survive. `flops_paper`: what the paper reports and the official code prints (utils.py, measure_layer):
those of convolutions, one per ReLU element, k² per average-pool output, weights + biases of the linear layer.
`params`: live weights and all other learnable parameters; the paper counts the same ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from condense_core.config import ModelConfig

from .of_config import cost_of_config
from .table import CostTable, LayerCost

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CostTable", "LayerCost", "check_fits", "cost_table"]

MAX_RATIO = 64  # larger than its file: beyond any condense factor that is in use


def cost_table(
    network: ModelConfig | nn.Module, stage: int | None = None, image_size: int | None = None
) -> CostTable:
    """The cost of a configuration in `stage` (default: the last one), or of a live model as its masks are.

    A model other than a CondenseNet is measured at `image_size` pixels, which must be given. Raises ValueError
    for a stage or an image size that the network does not have.

    >>> config = ModelConfig(stages=(2, 2), growth=(8, 16))
    >>> [cost_table(config, stage).macs for stage in (0, config.last_stage)]  # dense, then condensed
    [5423744, 3457664]
    """
    if isinstance(network, str):
        raise ValueError(f"network {network!r}: must be a configuration, as in PRESETS, or a model")
    if isinstance(network, ModelConfig):
        check_image_size(image_size, network.image_size)
        stage = network.last_stage if stage is None else stage
        if not 0 <= stage <= network.last_stage:
            raise ValueError(f"stage {stage}: must be 0 to {network.last_stage}")
        return cost_of_config(network, stage)
    from .of_model import measure

    if stage is not None:
        raise ValueError(f"stage {stage}: only a configuration has stages; a model is counted as its masks are")
    return measure(network, image_size)


def check_image_size(given: int | None, own: int, what: str = "configuration") -> None:
    """Raise ValueError if another image size is given than that of a configuration or a model."""
    if given not in (None, own):
        raise ValueError(f"image_size {given}: the {what} is for images of {own} pixels")


def check_fits(config: ModelConfig, length: int, where: str) -> None:
    """Raise ValueError if a network is far larger than a file of `length` bytes can hold.

    A file holds its weights, or of a condensed network at least a part of them. Asked before it is built.
    """
    dense = replace(config, grouping="learned") if config.grouping != "none" else config
    needed = 4 * cost_table(dense, 0).params
    if needed > MAX_RATIO * length + (1 << 20):
        raise ValueError(
            f"{where}: has {length:,} bytes, but the network that it describes would have {needed:,}"
        )
