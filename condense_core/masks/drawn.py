"""Masks that are drawn or given by rule: which inputs each group of a 1×1 convolution reads."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor


def sequential_mask(in_channels: int, groups: int, kept: int, *_: object) -> Tensor:
    """Group g reads `kept` consecutive inputs from floor(g·I/G), wrapping round: bool (groups, in_channels).

    >>> sequential_mask(in_channels=4, groups=2, kept=2).int()
    tensor([[1, 1, 0, 0],
            [0, 0, 1, 1]], dtype=torch.int32)
    """
    start = torch.arange(groups) * in_channels // groups
    index = (start[:, None] + torch.arange(kept)) % in_channels
    return torch.zeros(groups, in_channels, dtype=torch.bool).scatter_(1, index, True)


def random_mask(in_channels: int, groups: int, kept: int, generator: torch.Generator) -> Tensor:
    """`sequential_mask` on a random permutation of the inputs: bool (groups, in_channels).

    >>> mask = random_mask(4, groups=2, kept=2, generator=torch.Generator().manual_seed(0))
    >>> mask.sum(1)  # each group reads two inputs
    tensor([2, 2])
    """
    order = torch.randperm(in_channels, generator=generator)
    return sequential_mask(in_channels, groups, kept)[:, order]


def independent_mask(in_channels: int, groups: int, kept: int, generator: torch.Generator) -> Tensor:
    """Each group draws its inputs alone, so that some may be read by no group: bool (groups, in_channels)."""
    return torch.stack([torch.randperm(in_channels, generator=generator) < kept for _ in range(groups)])


def is_mask(mask: object, groups: int, in_channels: int, kept: int) -> TypeGuard[Tensor]:
    """Return whether `mask` is bool (groups, in_channels) with `kept` inputs in each group."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (groups, in_channels):
        return False
    return bool((mask.sum(1) == kept).all())
