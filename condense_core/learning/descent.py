"""The optimizer of the recipe, and its learning rate."""

from __future__ import annotations

import math

import torch
from torch.optim import SGD

from condense_core.config import RETRAINING, RecipeConfig
from condense_core.model import CondenseNet


def momentum_descent(model: CondenseNet, recipe: RecipeConfig) -> SGD:
    """Return the recipe's optimizer, with momentum at zero, so that a snapshot always has all of it."""
    rate, momentum, decay = recipe.learning_rate, recipe.momentum, recipe.weight_decay
    optimizer = SGD(model.parameters(), rate, momentum, weight_decay=decay, nesterov=momentum > 0, fused=True)
    for parameter in model.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def learning_rate(recipe: RecipeConfig, step: int, steps: int, prunes: bool = True) -> float:
    """Return the learning rate of a step of 0 … `steps` − 1: a cosine from the initial rate to 0.

    A network that is pruned after it was trained (`prunes`, and a pruning of RETRAINING) starts a second cosine
    halfway.

    >>> [round(learning_rate(RecipeConfig(learning_rate=0.1), step, 4), 3) for step in range(4)]
    [0.1, 0.085, 0.05, 0.015]
    """
    initial = recipe.learning_rate
    if prunes and recipe.pruning in RETRAINING:
        trained = -(-steps // 2)
        if step < trained:
            steps = trained
        else:
            step, steps = step - trained, steps - trained
            initial = initial if recipe.retraining_rate is None else recipe.retraining_rate
    return 0.5 * initial * (1 + math.cos(math.pi * step / max(steps, 1)))
