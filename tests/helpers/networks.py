"""Networks as training leaves them, without training."""

from __future__ import annotations

import torch
from torch import nn

from condense_core import CondenseNet
from condense_core.condensation import prune_to_stage


def lived_in(config, stage: int | None = None, seed: int = 0) -> CondenseNet:
    """A network with batch statistics as training leaves them, pruned to `stage` (default: the last)."""
    model = CondenseNet(config, seed)
    live_in(model, seed)
    last = config.last_stage
    prune_to_stage(model, last if stage is None else min(stage, last), last)
    return model


def live_in(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give any network batch statistics as training leaves them, and return it."""
    draws = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.5, generator=draws)
            module.running_var.uniform_(0.5, 2, generator=draws)
            module.weight.data.normal_(1, 0.3, generator=draws)
            module.bias.data.normal_(0, 0.3, generator=draws)
    return model
