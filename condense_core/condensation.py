"""Condensation (paper Sec. 3.1): importance, pruning and the group lasso that prepares it.

Traditional pruning, the paper's control (Sec. 4.3), has other stages and other scores (`learning/criteria.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .grouping import (
    LearnedGroupConv,
    LearnedGroupLinear,
    UnstructuredConv,
    grouped,
    live_weights,
    masked_layers,
)
from .stages import kept_inputs, layer_stage

Learned = LearnedGroupConv | LearnedGroupLinear

LASSO_FLOOR = 1e-6  # least squared norm: at 0 the gradient of the root would be NaN


def learned_layers(model: nn.Module) -> dict[str, Learned]:
    """Return every layer of `model` that learns its groups, by name, in the order of the network."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Learned)}


def importance(weight: Tensor, groups: int, permute: bool = True) -> Tensor:
    """Return how much each group uses each input, Σ|W| over its outputs and the kernel: (groups, in_channels).

    >>> weight = torch.tensor([[1.0, -2.0], [3.0, 4.0], [-5.0, 6.0], [7.0, 8.0]])  # 4 outputs of 2 inputs
    >>> importance(weight[:, :, None, None], groups=2)  # outputs 0 and 2 are group 0
    tensor([[ 6.,  8.],
            [10., 12.]])
    """
    return grouped(weight.detach().abs(), groups, permute).sum(0)


def importances(model: nn.Module) -> dict[str, Tensor]:
    """Return the importance of every masked layer's connections by its name, as copies on the CPU."""
    layers = masked_layers(model).items()
    return {name: importance(layer.weight, layer.groups, layer.permute).cpu() for name, layer in layers}


def prune_mask(importance: Tensor, mask: Tensor, kept: int) -> Tensor:
    """Keep the `kept` most important live inputs of every group; ties drop the lower index first.

    `importance` and `mask` are (groups, in_channels). Raises ValueError if fewer inputs are alive.

    >>> importance = torch.tensor([[0.1, 0.4, 0.3, 0.2], [0.9, 0.1, 0.5, 0.7]])
    >>> prune_mask(importance, torch.ones(2, 4, dtype=torch.bool), kept=2)
    tensor([[False,  True,  True, False],
            [ True, False, False,  True]])
    """
    if (alive := int(mask.sum(1).min())) < kept:
        raise ValueError(f"kept {kept}: must be at most the {alive} inputs that a group still reads")
    order = importance.masked_fill(~mask, -math.inf).argsort(dim=1, stable=True)
    return mask.scatter(1, order[:, : mask.shape[1] - kept], False)


@torch.no_grad()
def prune(layer: Learned, stage: int, momentum: Tensor | None = None, scores: Tensor | None = None) -> None:
    """Prune `layer` to `stage` in place; a dropped connection loses its weight and its `momentum` for good.

    Those with the lowest `scores` (groups, in_channels) are dropped first; the default is the importance.
    """
    if scores is None:
        scores = importance(layer.weight, layer.groups, layer.permute)
    kept = kept_inputs(layer.mask.shape[1], layer.condense_factor, stage)
    if isinstance(layer, UnstructuredConv):  # one row: weights compete across the whole layer
        pruned = prune_mask(scores.reshape(1, -1), layer.mask.view(1, -1), kept * layer.groups)
    else:
        pruned = prune_mask(scores, layer.mask, kept)
    layer.mask.copy_(pruned.view_as(layer.mask))
    live = live_weights(layer)
    layer.weight *= live
    if momentum is not None:
        momentum *= live


def prune_to_stage(model: nn.Module, stage: int, last_stage: int) -> None:
    """Prune every layer of `model` that learns its groups to `stage` of the network's 0 … `last_stage`."""
    for layer in learned_layers(model).values():
        prune(layer, layer_stage(stage, last_stage, layer.condense_factor))


def group_lasso(model: nn.Module) -> Tensor:
    """Sum over layers, groups and live inputs the norm of W over the group's outputs and the kernel (Eq. 2)."""
    return sum(_lasso_terms(model), start=torch.zeros(()))


def _lasso_terms(model: nn.Module) -> Iterator[Tensor]:
    for layer in model.modules():
        if isinstance(layer, Learned) and layer.has_lasso:
            enough = torch.promote_types(layer.weight.dtype, torch.float32)  # in float16 squares overflow
            weight = layer.weight.to(enough)
            squared = grouped(weight * weight, layer.groups, layer.permute).sum(0)
            yield (squared.clamp(min=LASSO_FLOOR).sqrt() * layer.mask).sum()
