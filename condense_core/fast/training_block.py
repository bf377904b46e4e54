"""The fast execution of a dense block on the CPU: the numbers of the reference, in fewer passes over memory.

The features of a block are in one buffer, to which its layers append (no concatenation). The batch statistics
of a feature are computed once, although every later layer normalises it. Pruned connections are not computed.
The inputs of the convolutions are computed again in the backward pass (Pleiss et al. 2017), so that only the
features and the results of the 1×1 convolutions are kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from condense_core.grouping import MaskedConv1x1

from .conditions import can_run, has_hooks, is_in_mode, modules_of
from .kernels import conv1x1, norms, pooling
from .layout import Array, Layout, empty, layout_of
from .packed_layers import Layer, Pointwise, Spatial, state_of
from .threads import share

LAYER = ("norm1", "relu1", "conv1", "norm2", "relu2", "conv2")  # the modules of a layer that kernels compute


class TrainingEngine:
    """Computes a dense block with gradients; keeps its layers as the kernels take them."""

    def __init__(self) -> None:
        self._state: list[int] = []
        self._layers: list[Layer] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return TrainingEngine, ()  # a copied block has other tensors, so its engine keeps nothing of these

    def run(self, block: nn.Module, x: Tensor) -> Tensor | None:
        """(N, in, H, W) → (N, in + layers · growth_rate, H, W), or None if the reference must compute it.

        That is so with dropout, hooks, modules of other kinds and frozen batch norms, and for gradients in
        evaluation mode.
        """
        if not can_run(x) or (torch.is_grad_enabled() and not block.training):
            return None
        if has_hooks(block) or not all(_is_known(layer._modules, block.training) for layer in block.children()):
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


def _is_known(parts: dict[str, Any], training: bool) -> bool:
    """Return whether a layer has the modules that kernels compute, in the mode of its block."""
    if tuple(parts) != LAYER or not all(is_in_mode(parts[name], training) for name in ("norm1", "norm2")):
        return False
    first = type(parts["conv1"])
    convolutions = first is nn.Conv2d or first.forward is MaskedConv1x1.forward
    relus = type(parts["relu1"]) is type(parts["relu2"]) is nn.ReLU
    return convolutions and relus and type(parts["conv2"]) is nn.Conv2d


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
        statistics = np.empty((2, total))  # of the features so far
        if training:
            statistics[:, :channels] = _statistics(layout, features, channels)
        for layer in layers:
            # Normalise by the statistics that are there, and convolve; its kernel takes those of the result.
            first = layer.first(statistics[:, :channels] if training else None, layout.pixels)
            hidden, moments = _pointwise(layer.pointwise, layout, features, first)
            second = layer.second(moments.combined() if training else None, layout.pixels)
            # Append the new features to the buffer, and their statistics to the others.
            moments = _spatial(layer.spatial, layout, hidden, second, features, channels)
            growth = layer.spatial.out_channels
            if training:
                statistics[:, channels : channels + growth] = moments.combined()
                context.kept.append((first, hidden, second))
            channels += growth
        return buffer

    @staticmethod
    @once_differentiable
    @np.errstate(over="ignore", invalid="ignore")  # the trainer reports itself that a run diverged
    def backward(context: Any, above: Tensor) -> tuple[Any, ...]:
        _ = context.saved_tensors
        if not context.kept:
            raise RuntimeError(
                "execution 'fast' goes backward once only: its intermediate results are gone; use 'reference'"
            )
        layout, features = context.layout, context.layout.array(context.buffer)
        gradients = _FeatureGradients(layout, features, above, norm=context.kept[-1][0])
        grads: list[Tensor] = []
        for layer in reversed(context.layers):
            first, hidden, second = context.kept.pop()
            channels = layer.pointwise.in_channels
            # All later layers have added to the gradient of this layer's features: it is complete.
            gradients.settle(channels, channels + layer.spatial.out_channels)
            dy, dspatial, dsecond = _spatial_backward(
                layer.spatial, layout, hidden, second, gradients.raw, channels
            )
            affine = _through_norm(second, second[4], dsecond, layout.pixels)
            dconv, dfirst = _pointwise_backward(
                layer.pointwise, layout, features, first, hidden, dy, affine, gradients.normalised
            )
            gradients.sums[:, :channels] += first[4] * dfirst
            of_first, of_second = (torch.from_numpy(d.astype(features.dtype)) for d in (dfirst, dsecond))
            grads = [of_first[1], of_first[0], dconv, of_second[1], of_second[0], dspatial, *grads]
        gradients.settle(0, channels)
        return gradients.tensor[:, :channels], None, None, *grads


class _FeatureGradients:
    """The gradients of a block's features: of the raw ones, and of the normalised ones, which all layers share.

    A layer adds to the gradient of the normalised features that it reads. When all layers that read a feature
    have done so, `settle` takes it through the normalisation, once.
    """

    def __init__(self, layout: Layout, features: Array, above: Tensor, norm: Array):
        self._layout, self._features = layout, features
        self._norm = norm  # of the last layer, which reads all features that any layer reads
        total = features.shape[1]
        self.tensor = layout.empty(total, above.dtype).copy_(above)
        self.raw = layout.array(self.tensor)
        self.normalised = np.zeros_like(self.raw)
        self.sums = np.zeros((2, total))  # Σg and Σg·x̂ of the gradient g of the normalised features

    def settle(self, begin: int, end: int) -> None:
        """Add the gradient of some normalised features to that of the raw ones; no layer reads the last."""
        if end > self._norm.shape[1]:
            return
        gamma = np.ones(end - begin, self._features.dtype)  # γ is in the gradient already
        affine = _through_norm(self._norm[:, begin:end], gamma, self.sums[:, begin:end], self._layout.pixels)
        arrays = self._features, self.normalised, affine, begin, self.raw
        share(norms.norm_backward, len(self._features), *arrays)


def _statistics(layout: Layout, features: Array, channels: int) -> Array:
    """Return mean and variance (2, channels) of the first features."""
    moments = _Moments(layout.image_sizes, channels, features.dtype)
    share(norms.statistics, len(features), features, channels, moments.sums, moments.deviations)
    return moments.combined()


def _pointwise(conv: Pointwise, layout: Layout, features: Array, norm: Array) -> tuple[Array, _Moments]:
    """Return the result of a 1×1 convolution of the normalised features, and its moments."""
    hidden = np.empty((len(features), conv.out_channels, features.shape[2]), features.dtype)
    moments = _Moments(layout.tile_sizes, conv.out_channels, features.dtype)
    share(
        conv1x1.pointwise, len(layout.tile_sizes), features, norm, conv.index, conv.packed(), conv.rows, hidden,
        moments.sums, moments.deviations,
    )  # fmt: skip
    return hidden, moments


def _spatial(
    conv: Spatial, layout: Layout, hidden: Array, norm: Array, features: Array, out_offset: int
) -> _Moments:
    """Write a 3×3 convolution's result into `features` from channel `out_offset` on; return its moments."""
    moments = _Moments(layout.moment_sizes, conv.out_channels, features.dtype)
    share(
        layout.conv3x3.spatial, layout.chunks, hidden, norm, conv.packed(), conv.outputs,
        layout.images_per_chunk, layout.height, layout.width, features, out_offset,
        moments.sums, moments.deviations,
    )  # fmt: skip
    return moments


def _spatial_backward(
    conv: Spatial, layout: Layout, hidden: Array, norm: Array, dout: Array, out_offset: int
) -> tuple[Array, Tensor, Array]:
    """Return the gradients of the norm's output, of the weights, and of the norm's shift and scale (2, I)."""
    dy, dnorm, lanes = np.empty_like(hidden), np.zeros((2, hidden.shape[1])), conv.gradient_buffer()
    share(
        layout.conv3x3.spatial_backward, layout.chunks, hidden, norm, conv.transposed(), dout, out_offset,
        layout.images_per_chunk, layout.height, layout.width, dy, summed=(lanes, dnorm[0], dnorm[1]),
    )  # fmt: skip
    return dy, conv.gradient(lanes), dnorm


def _pointwise_backward(
    conv: Pointwise, layout: Layout, features: Array, norm: Array, hidden: Array, dy: Array, affine: Array,
    inner: Array,
) -> tuple[Tensor, Array]:  # fmt: skip
    """Return the gradients of the weights and of the norm's shift and scale (2, C); add x̂'s to `inner`."""
    dnorm, lanes = np.zeros((2, conv.in_channels)), conv.gradient_buffer()
    share(
        conv1x1.pointwise_backward, len(layout.tile_sizes), features, norm, conv.padded_index,
        conv.transposed(), conv.rows, hidden, dy, affine, inner, summed=(lanes, dnorm[0], dnorm[1]),
    )  # fmt: skip
    return conv.gradient(lanes), dnorm


class _Moments:
    """Σx and Σ(x − mean)² of every channel by parts of a batch, as kernels fill them in."""

    def __init__(self, sizes: Array, channels: int, dtype: Any):
        self._sizes = sizes
        self.sums, self.deviations = np.empty((2, len(sizes), channels), dtype)

    def combined(self) -> Array:
        """Return mean and biased variance of every channel, in float64: (2, C)."""
        result = np.empty((2, self.sums.shape[1]))
        norms.combine(self.sums, self.deviations, self._sizes, *result)
        return result


def _through_norm(norm: Array, gamma: Array, sums: Array, pixels: int) -> Array:
    """Return how the gradient passes a norm: see `norms.through_norm`."""
    affine = np.empty((3, len(gamma)), norm.dtype)
    norms.through_norm(norm, gamma, sums, pixels, affine)
    return affine
