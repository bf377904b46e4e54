"""The fast execution of a dense block on the CPU: the numbers of the reference, in fewer passes over memory.

What a block makes lies in one buffer, to which its layers append (no concatenation). The batch statistics of a
feature are taken once, though every later layer normalises it. Pruned connections are not computed. What stands
in front of a convolution is computed again in the backward pass (Pleiss et al. 2017), so that only the features
and the results of the 1×1 convolutions are kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .conditions import can_run, has_hooks, modules_of
from .kernels import conv1x1, norms, pooling
from .layout import empty, layout_of
from .packed_layers import Layer, state_of
from .threads import share

LAYER = ("norm1", "relu1", "conv1", "norm2", "relu2", "conv2")  # the modules of a layer that kernels compute
Array = np.ndarray


class TrainingEngine:
    """Computes a dense block with gradients; keeps its layers as the kernels take them."""

    def __init__(self) -> None:
        self._state: list[int] = []
        self._layers: list[Layer] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return TrainingEngine, ()  # a copied block has other tensors, so its engine keeps nothing of these

    def run(self, block: nn.Module, x: Tensor) -> Tensor | None:
        """(N, in, H, W) → (N, in + layers · growth_rate, H, W), or None if the reference must compute it.

        The reference computes dropout, what hooks wait for, and gradients in evaluation mode.
        """
        if not can_run(x) or (torch.is_grad_enabled() and not block.training):
            return None
        if has_hooks(block) or any(tuple(layer._modules) != LAYER for layer in block.children()):
            return None
        owned = (part._parameters.values() for part in modules_of(block))
        parameters = [own for some in owned for own in some if own is not None]
        return _Block.apply(x, block.training, self.layers_of(block), *parameters)

    def layers_of(self, block: nn.Module) -> list[Layer]:
        """Return a block's layers, read again if a tensor has moved or a mask has changed."""
        modules: list[dict[str, Any]] = [layer._modules for layer in block.children()]
        state = state_of(modules)
        if state != self._state:
            self._state, self._layers = state, [Layer(layer) for layer in modules]
        return self._layers


class PoolingEngine:
    """Computes a transition that only pools."""

    def run(self, block: nn.Module, x: Tensor) -> Tensor | None:
        """(N, C, H, W) → (N, C, H / 2, W / 2), means of 2×2 pixels; an odd row or column is left out.

        None if the transition does more than that, or has hooks.
        """
        if not can_run(x) or len(block._modules) > 1 or has_hooks(block) or min(x.shape[2:]) < 2:
            return None
        return _Pool.apply(x)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.shape = x.shape
        out = empty(*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2, dtype=x.dtype)
        planes = x.detach().contiguous().flatten(0, 1).numpy()
        share(pooling.pool, len(planes), planes, out.flatten(0, 1).numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor) -> Tensor:
        below = empty(*context.shape, dtype=above.dtype)
        planes = above.contiguous().flatten(0, 1).numpy()
        share(pooling.pool_backward, len(planes), planes, below.flatten(0, 1).numpy())
        return below


class _Block(torch.autograd.Function):
    """A dense block from its input and its layers' parameters, in the order in which modules have them."""

    @staticmethod
    def forward(context: Any, x: Tensor, training: bool, layers: list[Layer], *parameters: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        layout = layout_of(count, height, width)
        total = channels + sum(layer.spatial.out_channels for layer in layers)
        buffer = layout.empty(total, x.dtype)
        buffer[:, :channels] = x
        features = layout.array(buffer)
        context.save_for_backward(*parameters)  # torch refuses the backward pass once they have changed
        context.layers, context.layout, context.buffer, context.kept = layers, layout, buffer, []
        statistics = np.empty((2, total))
        if training:
            moments = _Moments(layout.of_images, channels, features.dtype)
            share(norms.statistics, len(features), features, channels, moments.sums, moments.deviations)
            statistics[:, :channels] = moments.combined()
        for layer in layers:
            conv, spatial = layer.pointwise, layer.spatial
            first = layer.first(statistics[:, :channels] if training else None, layout.pixels)
            hidden = np.empty((len(features), conv.out_channels, features.shape[2]), features.dtype)
            moments = _Moments(layout.of_tiles, conv.out_channels, features.dtype)
            share(
                conv1x1.pointwise, len(layout.of_tiles), features, first, conv.index, conv.packed(), conv.rows,
                hidden, moments.sums, moments.deviations,
            )  # fmt: skip
            second = layer.second(moments.combined() if training else None, layout.pixels)
            growth = spatial.out_channels
            moments = _Moments(layout.of_parts, growth, features.dtype)
            share(
                layout.kernels.spatial, layout.parts, hidden, second, spatial.packed(), spatial.outputs,
                layout.each, height, width, features, channels, moments.sums, moments.deviations,
            )  # fmt: skip
            if training:
                statistics[:, channels : channels + growth] = moments.combined()
                context.kept.append((first, hidden, second))
            channels += growth
        return buffer

    @staticmethod
    @once_differentiable
    @np.errstate(over="ignore", invalid="ignore")  # training says itself that it diverged
    def backward(context: Any, above: Tensor) -> tuple[Any, ...]:
        _ = context.saved_tensors
        if not context.kept:
            raise RuntimeError(
                "execution 'fast' goes backward once only: what it kept is gone; use 'reference'"
            )
        layout, features = context.layout, context.layout.array(context.buffer)
        height, width, total, dtype = layout.height, layout.width, features.shape[1], features.dtype
        out = layout.empty(total, above.dtype).copy_(above)
        gradient = layout.array(out)  # of the raw features
        inner = np.zeros_like(gradient)  # of the normalised ones
        outer = np.zeros((2, total))  # Σg and Σg·x̂ of the gradient g in `inner`
        grads: list[Tensor] = []
        norm = context.kept[-1][0]  # of all features but the last layer's, which nothing normalises here

        def settle(begin: int, end: int) -> None:
            """Let the gradient of some normalised features through to the raw ones, when it is complete."""
            one = np.ones(end - begin, dtype)
            affine = _through_norm(norm[:, begin:end], one, outer[:, begin:end], layout.pixels)
            share(norms.norm_backward, len(features), features, inner, affine, begin, gradient)

        for layer in reversed(context.layers):
            first, hidden, second = context.kept.pop()
            conv, spatial = layer.pointwise, layer.spatial
            channels, growth = conv.in_channels, spatial.out_channels
            if channels + growth < total:
                settle(channels, channels + growth)
            dy, sums, lanes = np.empty_like(hidden), np.zeros((2, conv.out_channels)), spatial.no_gradient()
            share(
                layout.kernels.spatial_backward, layout.parts, hidden, second, spatial.exchanged(),
                gradient, channels, layout.each, height, width, dy, summed=(lanes, sums[0], sums[1]),
            )  # fmt: skip
            dspatial = spatial.gradient(lanes)
            affine = _through_norm(second, second[4], sums, layout.pixels)
            own, lanes = np.zeros((2, channels)), conv.no_gradient()
            share(
                conv1x1.pointwise_backward, len(layout.of_tiles), features, first, conv.padded_index,
                conv.exchanged(), conv.rows, hidden, dy, affine, inner, summed=(lanes, own[0], own[1]),
            )  # fmt: skip
            outer[:, :channels] += first[4] * own
            of_first, of_second = (torch.from_numpy(both.astype(dtype)) for both in (own, sums))
            dconv = conv.gradient(lanes)
            grads = [of_first[1], of_first[0], dconv, of_second[1], of_second[0], dspatial, *grads]
        settle(0, channels)
        return out[:, :channels], None, None, *grads


class _Moments:
    """Partial sums of every channel, and what they give."""

    def __init__(self, sizes: Array, channels: int, dtype: Any):
        self.sizes = sizes
        self.sums, self.deviations = np.empty((2, len(sizes), channels), dtype)

    def combined(self) -> Array:
        """Mean and biased variance of every channel, in float64: (2, C)."""
        result = np.empty((2, self.sums.shape[1]))
        norms.combine(self.sums, self.deviations, self.sizes, *result)
        return result


def _through_norm(norm: Array, gamma: Array, sums: Array, pixels: int) -> Array:
    affine = np.empty((3, len(gamma)), norm.dtype)
    norms.through_norm(norm, gamma, sums, pixels, affine)
    return affine
