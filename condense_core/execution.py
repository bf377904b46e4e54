"""The fast execution of a dense block on the CPU: the numbers of the reference, in fewer passes over memory.

What a block makes lies in one buffer, to which its layers append (no concatenation). The batch statistics of a
feature are taken once, though every later layer normalises it. Pruned connections are not computed. What stands
in front of a convolution is computed again in the backward pass (Pleiss et al. 2017), so that only the features
and the results of the 1×1 convolutions are kept.
"""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .grouping import MaskedConv1x1, live_weights
from .threads import share

try:
    from . import kernels
except (ImportError, RuntimeError) as error:  # no numba, or nowhere to keep what it compiles
    kernels = None  # type: ignore[assignment]
    warnings.warn(f"execution 'fast' is not there ({error}): the slower reference is used", stacklevel=2)

LAYER = ("norm1", "relu1", "conv1", "norm2", "relu2", "conv2")  # what a layer must consist of
SMALLEST = 500_000  # features of a batch in a block: with fewer, calls cost more than the kernels save
Array = np.ndarray


def runs_fast(block: nn.Module, x: Tensor) -> bool:
    """Whether the fast execution computes what `block` says of `x`: no dropout, no hooks, large enough."""
    if not can_run(x) or (torch.is_grad_enabled() and not block.training):
        return False
    if not all(tuple(layer._modules) == LAYER for layer in block.children()):
        return False
    channels = x.shape[1] + sum(_convolutions(layer._modules)[1].out_channels for layer in block.children())
    return not watched(block) and channels * x[:, 0].numel() >= SMALLEST


def watched(module: nn.Module) -> bool:
    """Whether hooks wait for a module or a part of it, which they would not see at work."""
    return any(any(hooks_of(part)) for part in module.modules())


def hooks_of(module: nn.Module) -> tuple[Any, ...]:
    """The hooks that wait for this very module, by kind."""
    forward = module._forward_pre_hooks, module._forward_hooks
    return *forward, module._backward_pre_hooks, module._backward_hooks


def can_run(x: Tensor) -> bool:
    """Whether the kernels can read `x`: features in memory, in numbers that they know, and nobody traces."""
    if (
        kernels is None or torch.jit.is_tracing() or torch.compiler.is_compiling()
    ):  # asked first: sizes are symbols
        return False
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and x.dim() == 4 and len(x) > 0


def pools_fast(transition: nn.Module, x: Tensor) -> bool:
    """Whether `average_pool` is all that a transition does, with nobody watching."""
    if not can_run(x) or len(transition._modules) > 1 or watched(transition):
        return False
    return min(x.shape[2:]) > 1 and (x.numel() >= SMALLEST or not x.requires_grad)


def average_pool(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C, H / 2, W / 2), means of 2×2 pixels; an odd row or column is left out."""
    return _Pool.apply(x)


def run_block(block: nn.Module, x: Tensor) -> Tensor:
    """(N, in, H, W) → (N, in + layers · growth_rate, H, W), like the layers of `block` one after the other."""
    parameters = [parameter for layer in block.children() for parameter in layer.parameters()]
    return _Block.apply(x, block, *parameters)


class _Wiring:
    """What each group of a 1×1 convolution reads and makes; one group where nothing is pruned by groups."""

    def __init__(self, conv: nn.Module):
        assert isinstance(conv, MaskedConv1x1 | nn.Conv2d)
        index, rows = np.arange(conv.in_channels)[None], np.arange(conv.out_channels)[None]
        self.live: Array | None = None  # of the weights, where single ones are pruned
        if isinstance(conv, MaskedConv1x1) and not conv.mask.all():
            if len(conv.mask.sum(1).unique()) > 1:
                self.live = live_weights(conv).flatten(1).numpy()
            else:
                index = conv.mask.nonzero()[:, 1].view(conv.groups, -1).numpy()
                rows = np.arange(conv.out_channels).reshape(-1, conv.groups).T
                if not conv.permute:
                    rows = np.arange(conv.out_channels).reshape(conv.groups, -1)
        self.picked = rows[:, :, None], index[:, None, :]
        self.index, self.padded_index = np.ascontiguousarray(index), padded(index, 0)
        self.rows = padded(rows, -1)

    def gather(self, conv: nn.Module) -> Array:
        """The weights that are alive, by group: (G, M, K)."""
        weight = array(conv.weight).reshape(conv.out_channels, -1)  # type: ignore[arg-type]
        return (weight if self.live is None else weight * self.live)[self.picked]

    def no_gradient(self, dtype: Any) -> Array:
        """Zeros to sum the gradient of the gathered weights into, as `pointwise_backward` wants them."""
        groups, outputs = self.rows.shape
        return np.zeros((groups, self.padded_index.shape[1] // 2, outputs // 4, 4, 2, 8), dtype)

    def scatter(self, lanes: Array, shape: torch.Size) -> Tensor:
        """The gradient of the weights from what `pointwise_backward` summed up; 0 for what is pruned."""
        gathered = _summed(lanes).transpose(0, 2, 3, 1, 4).reshape(*self.rows.shape, -1)
        gradient = np.zeros(shape[:2], lanes.dtype)
        gradient[self.picked] = gathered[:, : self.picked[0].shape[1], : self.index.shape[1]]
        return torch.from_numpy(gradient if self.live is None else gradient * self.live).view(shape)


def padded(array: Array, value: int) -> Array:
    """`array` with `value` behind its last axis, to a multiple of 4."""
    return np.pad(array, [(0, 0), (0, -array.shape[1] % 4)], constant_values=value)


def array(tensor: Tensor) -> Array:
    """The same numbers for the kernels."""
    return tensor.detach().contiguous().numpy()


def _summed(lanes: Array) -> Array:
    """Sums over the last axis, term by term: numpy's sum is slow where it is short, torch's wakes threads."""
    return sum(np.moveaxis(lanes, -1, 0))


_WIRINGS: WeakKeyDictionary[nn.Module, tuple[tuple[int, int], _Wiring]] = WeakKeyDictionary()


def _wiring(conv: nn.Module) -> _Wiring:
    """The wiring of a convolution, made anew only where its mask has changed."""
    mask = conv.mask if isinstance(conv, MaskedConv1x1) else None
    version = (0, 0) if mask is None else (mask.data_ptr(), mask._version)
    known = _WIRINGS.get(conv)
    if known is None or known[0] != version:
        known = _WIRINGS[conv] = version, _Wiring(conv)
    return known[1]


class _Moments:
    """Partial sums of every channel, and what they give."""

    def __init__(self, sizes: Array, channels: int, dtype: Any):
        self.sizes = sizes
        self.sums, self.deviations = np.empty((2, len(sizes), channels), dtype)

    def combined(self) -> tuple[Array, Array]:
        """Mean and biased variance of every channel, in float64 (Chan et al. 1979)."""
        sums, sizes = self.sums.astype(np.float64), self.sizes[:, None]
        mean = sums.sum(0) / sizes.sum()
        between = sizes * (sums / sizes - mean) ** 2
        return mean, (self.deviations + between).sum(0) / sizes.sum()


def _norm(norm: Any, statistics: tuple[Array, Array] | None, pixels: int) -> Array:
    """A batch norm with a batch's statistics, which it tracks, or with its own, as kernels read it: (5, C).

    Scale and shift of the input x, then 1/σ, −μ/σ and γ.
    """
    running = norm.running_mean.numpy(), norm.running_var.numpy()
    mean, variance = statistics or tuple(own.astype(np.float64) for own in running)
    if statistics is not None:
        unbiased = variance * (pixels / max(pixels - 1, 1))
        for own, new in zip(running, (mean, unbiased), strict=True):
            own[:] += norm.momentum * (new - own)
        norm.num_batches_tracked.add_(1)
    gamma, beta = array(norm.weight), array(norm.bias)
    inverse = 1 / np.sqrt(variance + norm.eps)
    scale = gamma * inverse
    return np.stack([scale, beta - mean * scale, inverse, -mean * inverse, gamma]).astype(gamma.dtype)


def _through_norm(norm: Array, gamma: Array | float, sums: Array, pixels: int) -> Array:
    """How the gradient of a norm's input x follows from that of its output, g: a·g + b·x + d, as (3, C).

    Ioffe & Szegedy 2015; `sums` are Σg and Σg·x̂ over the pixels, γ is 1 where g is that of x̂.
    """
    inverse, offset = norm[2].astype(np.float64), norm[3].astype(np.float64)
    factor, (shift_mean, scale_mean) = gamma * inverse, sums / pixels
    affine = [factor, -factor * inverse * scale_mean, -factor * (shift_mean + offset * scale_mean)]
    return np.stack(affine).astype(norm.dtype)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.shape = x.shape
        out = torch.empty(*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2, dtype=x.dtype)
        share(kernels.pool, len(x), x.detach().contiguous().numpy(), out.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor) -> Tensor:
        below = torch.empty(context.shape, dtype=above.dtype)
        share(kernels.pool_backward, len(below), above.contiguous().numpy(), below.numpy())
        return below


class _Block(torch.autograd.Function):
    """A dense block from its input and its layers' parameters, in the order in which modules have them."""

    @staticmethod
    def forward(context: Any, x: Tensor, block: nn.Module, *parameters: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        area, layers = height * width, [layer._modules for layer in block.children()]
        total = channels + sum(_convolutions(layer)[1].out_channels for layer in layers)
        buffer = torch.empty(count, total, height, width, dtype=x.dtype)
        buffer[:, :channels] = x
        features = buffer.numpy().reshape(count, total, area)
        context.save_for_backward(*parameters)  # torch refuses the backward pass once they have changed
        context.block, context.shape, context.buffer, context.kept = block, x.shape, buffer, []
        of_tiles, of_images = kernels.tile_sizes(count, area), np.full(count, area)
        each = kernels.cut(area)[0]
        mean, variance = np.empty((2, total))
        if block.training:
            moments = _Moments(of_images, channels, features.dtype)
            share(kernels.statistics, count, features, channels, moments.sums, moments.deviations)
            mean[:channels], variance[:channels] = moments.combined()
        for layer in layers:
            conv, spatial = _convolutions(layer)
            known = (mean[:channels], variance[:channels]) if block.training else None
            first = _norm(layer["norm1"], known, count * area)
            wiring = _wiring(conv)
            hidden = np.empty((count, conv.out_channels, area), features.dtype)
            moments = _Moments(of_tiles, conv.out_channels, features.dtype)
            share(
                kernels.pointwise, len(of_tiles), features, first, wiring.index,
                kernels.packed(wiring.gather(conv), 4), wiring.rows, hidden, moments.sums, moments.deviations,
            )  # fmt: skip
            second = _norm(layer["norm2"], moments.combined() if block.training else None, count * area)
            taps = taps_of(spatial)
            groups, outputs, *_ = taps.shape
            growth, rows = spatial.out_channels, 2 if outputs <= 2 else 4
            moments = _Moments(of_images, growth, features.dtype)
            share(
                kernels.spatial, -(-count // each), hidden, second,
                kernels.packed(taps.reshape(groups, outputs, -1), rows), outputs, each, height, width,
                features, channels, moments.sums, moments.deviations,
            )  # fmt: skip
            if block.training:
                new = slice(channels, channels + growth)
                mean[new], variance[new] = moments.combined()
                context.kept.append((first, hidden, second))
            channels += growth
        return buffer

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor) -> tuple[Any, ...]:
        _ = context.saved_tensors
        if not context.kept:
            raise RuntimeError(
                "execution 'fast' goes backward once only: what it kept is gone; use 'reference'"
            )
        block, buffer = context.block, context.buffer
        count, inputs, height, width = context.shape
        area = height * width
        each, total = kernels.cut(area)[0], buffer.shape[1]
        features = buffer.numpy().reshape(count, total, area)
        out = above.clone(memory_format=torch.contiguous_format)
        gradient = out.numpy().reshape(features.shape)  # of the raw features
        inner = np.zeros_like(gradient)  # of the normalised ones
        outer = np.zeros((2, total))  # Σg and Σg·x̂ of the gradient g in `inner`
        grads: list[Tensor] = []
        norm = context.kept[-1][0]  # of all features but the last layer's, which nothing normalises here

        def settle(begin: int, end: int) -> None:
            """Let the gradient of some normalised features through to the raw ones, when it is complete."""
            affine = _through_norm(norm[:, begin:end], 1.0, outer[:, begin:end], count * area)
            share(kernels.norm_backward, count, features, inner, affine, begin, gradient)

        for layer in reversed(list(block.children())):
            first, hidden, second = context.kept.pop()
            conv, spatial = _convolutions(layer._modules)
            channels, growth = conv.in_channels, spatial.out_channels
            if channels + growth < total:
                settle(channels, channels + growth)
            taps = taps_of(spatial)
            groups, outputs, read, _ = taps.shape
            turned = taps.swapaxes(1, 2)[..., ::-1].reshape(groups, read, -1)
            lanes = np.zeros((groups, -(-outputs // 2), -(-9 * read // 4), 2, 4, 8), features.dtype)
            dy, sums = np.empty_like(hidden), np.zeros((2, conv.out_channels))
            share(
                kernels.spatial_backward, -(-count // each), hidden, second,
                kernels.packed(turned, 4), gradient, channels, each, height, width, dy,
                summed=(lanes, sums[0], sums[1]),
            )  # fmt: skip
            dtaps = _summed(lanes).swapaxes(2, 3).reshape(groups, 2 * lanes.shape[1], -1)
            dtaps = dtaps[:, :outputs, : 9 * read].reshape(spatial.weight.shape)
            affine = _through_norm(second, second[4], sums, count * area)
            wiring, own = _wiring(conv), np.zeros((2, channels))
            lanes, exchanged = wiring.no_gradient(features.dtype), wiring.gather(conv).swapaxes(1, 2)
            share(
                kernels.pointwise_backward, len(kernels.tile_sizes(count, area)), features, first,
                wiring.padded_index, kernels.packed(exchanged, 4, 4), wiring.rows, hidden, dy, affine, inner,
                summed=(lanes, own[0], own[1]),
            )  # fmt: skip
            outer[:, :channels] += first[4] * own
            of_norms = {
                "norm1.weight": own[1], "norm1.bias": own[0], "norm2.weight": sums[1], "norm2.bias": sums[0],
            }  # fmt: skip
            of_layer = {name: torch.from_numpy(row.astype(features.dtype)) for name, row in of_norms.items()}
            of_layer["conv1.weight"] = wiring.scatter(lanes, conv.weight.shape)
            of_layer["conv2.weight"] = torch.from_numpy(dtaps)
            grads = [of_layer[name] for name, _ in layer.named_parameters()] + grads
        settle(0, inputs)
        return out[:, :inputs], None, *grads


def _convolutions(layer: Any) -> tuple[Any, Any]:
    """The 1×1 and the 3×3 convolution among the modules of a layer."""
    return layer["conv1"], layer["conv2"]


def taps_of(conv: Any) -> Array:
    """The weight of a grouped 3×3 convolution by group: (G, out / G, in / G, 9)."""
    weight = array(conv.weight)
    return weight.reshape(conv.groups, -1, weight.shape[1], 9)
