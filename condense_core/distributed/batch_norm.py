"""Batch norms over the images of all ranks.

torch's SyncBatchNorm needs a GPU and is not a BatchNorm2d, which pruning and costs look for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

AddUp = Callable[[Tensor], Tensor]  # the sum over all ranks, in place


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm over the batches of all ranks together, with the state of `nn.BatchNorm2d`."""

    add_up: AddUp

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W); N may be 0 on some of the ranks."""
        if not self.training:
            return super().forward(x)
        mean, variance, count = self._moments(x.detach())
        self._track(mean, variance, count)
        return _Normalise.apply(x, self.weight, self.bias, mean, variance, count, self)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and biased variance (C,) over all ranks, and the number of pixels in a channel."""
        sums = x.new_zeros(3, self.num_features, dtype=torch.float64)
        if len(x):
            mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
            sums[0], sums[1] = mean, variance.double() + mean.double() ** 2
            sums[2] = 1
            sums *= x.numel() / self.num_features
        total, squares, count = self.add_up(sums)
        mean = total / count
        variance = squares / count - mean**2
        dtype = self.weight.dtype
        return mean.to(dtype), variance.to(dtype), count[0]

    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        unbiased = variance * (count / (count - 1)).to(variance.dtype)
        self.running_mean.lerp_(mean, self.momentum)  # type: ignore[union-attr, arg-type]
        self.running_var.lerp_(unbiased, self.momentum)  # type: ignore[union-attr, arg-type]
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]


class _Normalise(torch.autograd.Function):
    """γ·x̂ + β, where the moments depend on the images of all ranks (Ioffe & Szegedy 2015)."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, count: Tensor,
        norm: SynchronisedBatchNorm2d,
    ) -> Tensor:  # fmt: skip
        context.save_for_backward(x, gamma, mean, variance, count)
        context.norm = norm
        return torch.batch_norm(x, gamma, beta, mean, variance, False, 0.0, norm.eps, True)

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, mean, variance, count = context.saved_tensors
        norm = context.norm
        below, dgamma, dbeta = torch.empty_like(x), torch.zeros_like(gamma), torch.zeros_like(gamma)
        if len(x):  # with the moments as constants; their own gradients follow
            below, dgamma, dbeta = torch.ops.aten.native_batch_norm_backward(
                above, x, gamma, mean, variance, None, None, False, norm.eps, [True, True, True]
            )
        shift, scale = (norm.add_up(torch.stack([dbeta, dgamma]).double()) / count).to(gamma.dtype)
        inverse = torch.rsqrt(variance + norm.eps)
        slope = gamma * inverse * inverse * scale
        offset = gamma * inverse * shift - slope * mean
        below = torch.addcmul(below - _by_channel(offset), x, _by_channel(-slope)).to(x.dtype)
        return below, dgamma, dbeta, None, None, None, None


def _by_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


def synchronise(model: nn.Module, add_up: AddUp) -> None:
    """Make the batch norms of `model` normalise over the batches of all ranks together, in place."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SynchronisedBatchNorm2d  # keeps its parameters and statistics
            module.add_up = add_up  # type: ignore[assignment]
