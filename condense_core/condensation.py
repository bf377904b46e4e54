"""Condensation (paper Sec. 3.1): stages, importance, pruning and the group lasso that prepares it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import torch
from torch import Tensor, nn

from .grouping import LearnedGroupConv, LearnedGroupLinear, grouped, kept_inputs, weight_mask

Learned = LearnedGroupConv | LearnedGroupLinear

LASSO_FLOOR = 1e-6  # of a squared norm: without it the gradient at 0 is NaN


def stage_of(progress: float | Fraction, condense_factor: int) -> int:
    """Stage at a fraction of training in [0, 1): C−1 condensing stages share the first half."""
    return min(condense_factor - 1, math.floor(2 * progress * (condense_factor - 1)))


def layer_stage(stage: int, last_stage: int, condense_factor: int) -> int:
    """Stage of a layer with its own condense factor where the network (0 … `last_stage`) enters `stage`."""
    return stage_of(Fraction(stage, 2 * max(last_stage, 1)), condense_factor)


def learned_layers(model: nn.Module) -> dict[str, Learned]:
    """Every layer of `model` that learns its groups, by name, in the order of the network."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Learned)}


def importance(weight: Tensor, groups: int) -> Tensor:
    """How much each group uses each input, Σ|W| over the group's outputs: (groups, in_channels)."""
    return grouped(weight.detach().abs(), groups).sum(0)


def prune_mask(importance: Tensor, mask: Tensor, kept: int) -> Tensor:
    """Keep the `kept` most important live inputs of every group; ties drop the lower index first.

    `importance` and `mask` are (groups, in_channels); raises ValueError where fewer are alive.
    """
    if (alive := int(mask.sum(1).min())) < kept:
        raise ValueError(f"kept {kept}: must be at most the {alive} inputs that a group still reads")
    order = importance.masked_fill(~mask, -math.inf).argsort(dim=1, stable=True)
    return mask.scatter(1, order[:, : mask.shape[1] - kept], False)


@torch.no_grad()
def prune(layer: Learned, stage: int, momentum: Tensor | None = None) -> None:
    """Prune `layer` to `stage` in place; what is dropped loses its weight and its `momentum` for good."""
    kept = kept_inputs(layer.mask.shape[1], layer.condense_factor, stage)
    layer.mask.copy_(prune_mask(importance(layer.weight, layer.groups), layer.mask, kept))
    live = weight_mask(layer.mask, layer.weight.shape[0]).view_as(layer.weight)
    layer.weight *= live
    if momentum is not None:
        momentum *= live


def group_lasso(model: nn.Module) -> Tensor:
    """Σ over layers, groups and live inputs of the L2 norm of W over the group's outputs (Eq. 2): scalar."""
    return sum(_lasso_terms(model), start=torch.zeros(()))


def _lasso_terms(model: nn.Module) -> Iterator[Tensor]:
    for layer in model.modules():
        if isinstance(layer, LearnedGroupConv):
            squared = grouped(layer.weight * layer.weight, layer.groups).sum(0)
            yield (squared.clamp(min=LASSO_FLOOR).sqrt() * layer.mask).sum()
