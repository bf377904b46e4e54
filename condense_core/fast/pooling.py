"""The fast execution of a transition that only pools, in a condensed network on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .conditions import can_run, has_hooks
from .kernels import pooling
from .layout import empty
from .threads import share


class PoolingEngine:
    """Computes a transition that only pools, without gradients."""

    def run(self, block: nn.Module, x: Tensor) -> Tensor | None:
        """(N, C, H, W) → (N, C, H / 2, W / 2), means of 2×2 pixels; an odd row or column is left out.

        None if the transition does more than that, has hooks, or gradients are asked for.
        """
        learns = torch.is_grad_enabled() and x.requires_grad
        if not can_run(x) or learns or len(block._modules) > 1 or has_hooks(block) or min(x.shape[2:]) < 2:
            return None
        out = empty(*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2, dtype=x.dtype)
        planes, pooled = (own.detach().contiguous().numpy()[..., None] for own in (x, out))
        share(pooling.pool, planes.shape[0] * planes.shape[1], planes, planes.shape[1], pooled)
        return out
