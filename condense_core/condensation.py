"""Condensation (paper Sec. 3.1): importance, pruning and the group lasso that prepares it.

Traditional pruning, the paper's control (Sec. 4.3), is here too: other stages, other importances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .grouping import LearnedGroupConv, LearnedGroupLinear, Masked, UnstructuredConv, grouped, live_weights
from .stages import kept_inputs, layer_stage
from .tables import CRITERIA, implementation

Learned = LearnedGroupConv | LearnedGroupLinear

LASSO_FLOOR = 1e-6  # of a squared norm: without it the gradient at 0 is NaN


def kept_in_stage(layer: Masked, stage: int, last_stage: int) -> int:
    """Inputs that each group of a layer keeps in `stage` of a network's 0 … `last_stage`.

    Groups that are given keep the last stage's share from the start.
    """
    reached = layer.condense_factor - 1
    if isinstance(layer, Learned):
        reached = layer_stage(stage, last_stage, layer.condense_factor)
    return kept_inputs(layer.mask.shape[1], layer.condense_factor, reached)


def learned_layers(model: nn.Module) -> dict[str, Learned]:
    """Every layer of `model` that learns its groups, by name, in the order of the network."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Learned)}


def norms_in_front(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """The batch norm of the inputs of every layer that learns its groups, by the layer's name."""
    norms, norm = {}, None
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            norm = module
        elif isinstance(module, Learned) and norm is not None:
            norms[name] = norm
    return norms


def importance(weight: Tensor, groups: int, permute: bool = True) -> Tensor:
    """How much each group uses each input, Σ|W| over the group's outputs: (groups, in_channels)."""
    return grouped(weight.detach().abs(), groups, permute).sum(0)


def scores(layer: Learned, criterion: str, norm: nn.BatchNorm2d, draws: torch.Generator) -> Tensor:
    """Rank each connection by a criterion: (groups, in_channels); the lowest are pruned first."""
    return implementation(CRITERIA[criterion].score)(layer, norm, draws)


def l1(layer: Learned, *_: object) -> Tensor:
    """Σ|W| over the group's outputs (the paper's, Sec. 3.1)."""
    return importance(layer.weight, layer.groups, layer.permute)


def l2(layer: Learned, *_: object) -> Tensor:
    """ΣW² over the group's outputs."""
    return importance(layer.weight.square(), layer.groups, layer.permute)


def norm_scale(layer: Learned, norm: nn.BatchNorm2d, _draws: object) -> Tensor:
    """|γ| of the batch norm of the inputs (Liu et al. 2017)."""
    return norm.weight.detach().abs().expand(layer.mask.shape)


def at_random(layer: Learned, _norm: object, draws: torch.Generator) -> Tensor:
    """A random number for each connection."""
    return torch.rand(layer.mask.shape, generator=draws).to(layer.mask.device)


def prune_mask(importance: Tensor, mask: Tensor, kept: int) -> Tensor:
    """Keep the `kept` most important live inputs of every group; ties drop the lower index first.

    `importance` and `mask` are (groups, in_channels); raises ValueError where fewer are alive.
    """
    if (alive := int(mask.sum(1).min())) < kept:
        raise ValueError(f"kept {kept}: must be at most the {alive} inputs that a group still reads")
    order = importance.masked_fill(~mask, -math.inf).argsort(dim=1, stable=True)
    return mask.scatter(1, order[:, : mask.shape[1] - kept], False)


@torch.no_grad()
def prune(layer: Learned, stage: int, momentum: Tensor | None = None, scores: Tensor | None = None) -> None:
    """Prune `layer` to `stage` in place; what is dropped loses its weight and its `momentum` for good.

    `scores` (groups, in_channels) say what goes first; by default the importance.
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


def group_lasso(model: nn.Module) -> Tensor:
    """Σ over layers, groups and live inputs of the L2 norm of W over the group's outputs (Eq. 2): scalar."""
    return sum(_lasso_terms(model), start=torch.zeros(()))


def _lasso_terms(model: nn.Module) -> Iterator[Tensor]:
    for layer in model.modules():
        if isinstance(layer, LearnedGroupConv):
            squared = grouped(layer.weight * layer.weight, layer.groups, layer.permute).sum(0)
            yield (squared.clamp(min=LASSO_FLOOR).sqrt() * layer.mask).sum()
