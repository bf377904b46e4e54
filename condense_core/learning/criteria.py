"""Criteria: scores of connections, of which those with the lowest are pruned first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condense_core.condensation import Learned, importance
from condense_core.tables import CRITERIA, implementation


def input_norms(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """Return the batch norm of the inputs of every layer that learns its groups, by the layer's name."""
    norms, norm = {}, None
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            norm = module
        elif isinstance(module, Learned) and norm is not None:
            norms[name] = norm
    return norms


def scores(layer: Learned, criterion: str, norm: nn.BatchNorm2d | None, draws: torch.Generator) -> Tensor:
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
