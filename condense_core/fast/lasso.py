"""The group lasso of the fast execution on the CPU: value and gradient together, one call per layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from condense_core.condensation import LASSO_FLOOR
from condense_core.grouping import LearnedGroupConv

from .kernels.lasso import lasso


class _Lasso(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, layers: Sequence[LearnedGroupConv], *weights: Tensor) -> Tensor:
        total, context.gradients = 0.0, []
        for layer in layers:
            weight, mask = layer.weight.detach().numpy(), layer.mask.numpy()
            gradient, norms = np.empty_like(weight), np.empty(mask.shape, weight.dtype)
            flat, flat_gradient = weight.reshape(len(weight), -1), gradient.reshape(len(weight), -1)
            total += lasso(flat, mask, layer.permute, LASSO_FLOOR, norms, flat_gradient)
            context.gradients.append(torch.from_numpy(gradient))
        return weights[0].new_tensor(total)

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor) -> tuple[Any, ...]:
        return None, *torch._foreach_mul(context.gradients, above)


def group_lasso_of(layers: Sequence[LearnedGroupConv]) -> Tensor:
    """`condensation.group_lasso` of the layers of a network, at least one: scalar."""
    return _Lasso.apply(layers, *(layer.weight for layer in layers))
