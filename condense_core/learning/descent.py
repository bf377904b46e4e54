"""The optimizer of the recipe."""

from __future__ import annotations

import torch
from torch.optim import SGD

from condense_core.config import RecipeConfig
from condense_core.model import CondenseNet


def momentum_descent(model: CondenseNet, recipe: RecipeConfig) -> SGD:
    """Return the recipe's optimizer, with momentum at zero, so that a snapshot always has all of it."""
    rate, momentum, decay = recipe.learning_rate, recipe.momentum, recipe.weight_decay
    optimizer = SGD(model.parameters(), rate, momentum, weight_decay=decay, nesterov=momentum > 0, fused=True)
    for parameter in model.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
