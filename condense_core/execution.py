"""The fast execution of a dense block on the CPU: the numbers of the reference, in fewer passes over memory.

What a block makes lies in one buffer, to which its layers append (no concatenation). The batch statistics of a
feature are taken once, though every later layer normalises it. Pruned connections are not computed. What stands
in front of a convolution is computed again in the backward pass (Pleiss et al. 2017), so that only the features
and the results of the 1×1 convolutions are kept.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from . import condensation
from .arrays import Array, arrays
from .grouping import LearnedGroupConv, MaskedConv1x1, live_weights

try:
    from . import bookkeeping, kernels, lasso, small_images
except (ImportError, RuntimeError) as error:  # no numba, or nowhere to keep what it compiles
    kernels = None  # type: ignore[assignment]
    warnings.warn(f"execution 'fast' is not there ({error}): the slower reference is used", stacklevel=2)

LAYER = ("norm1", "relu1", "conv1", "norm2", "relu2", "conv2")  # what a layer must consist of
SMALL_IMAGE = 64  # pixels
TOGETHER = 64  # small images that a 3×3 convolution works on at a time


def runs_fast(block: nn.Module, x: Tensor) -> bool:
    """Whether the fast execution computes what `block` says of `x`: no dropout, no hooks."""
    if not _can_run(x) or (torch.is_grad_enabled() and not block.training):
        return False
    return all(tuple(layer) == LAYER for layer in _layers(block)) and not _watched(block)


def _watched(module: nn.Module) -> bool:
    """Whether hooks wait for a module or a part of it, which they would not see at work."""
    return any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for part in _parts(module)
    )


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """`module.modules()`, without the care for a module that occurs twice, which takes longer than a kernel."""
    yield module
    for part in module._modules.values():
        yield from _parts(part)  # type: ignore[arg-type]


def _can_run(x: Tensor) -> bool:
    fits = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and x.dim() == 4 and len(x) > 0
    return kernels is not None and fits and not torch.jit.is_tracing() and not torch.compiler.is_compiling()


def pools_fast(transition: nn.Module, x: Tensor) -> bool:
    """Whether `average_pool` is all that a transition does, with nobody watching."""
    alone = len(transition._modules) == 1 and not _watched(transition)
    return alone and _can_run(x) and min(x.shape[2:]) > 1


def average_pool(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C, H / 2, W / 2), means of 2×2 pixels; an odd row or column is left out."""
    return _Pool.apply(x)


def run_block(block: nn.Module, x: Tensor) -> Tensor:
    """(N, in, H, W) → (N, in + layers · growth_rate, H, W), like the layers of `block` one after the other."""
    parts = (part for layer in _layers(block) for part in layer.values())
    parameters = [
        parameter for part in parts for parameter in part._parameters.values() if parameter is not None
    ]
    return _Block.apply(x, block, *parameters)


def group_lasso(model: nn.Module) -> Tensor:
    """`condensation.group_lasso`: scalar."""
    layers = [module for module in _parts(model) if isinstance(module, LearnedGroupConv)]
    if kernels is None or not layers or layers[0].weight.device.type != "cpu":
        return condensation.group_lasso(model)
    return lasso.group_lasso(layers)


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
        self.index, self.padded_index = np.ascontiguousarray(index), _padded(index, 0)
        self.rows = _padded(rows, -1)
        self.groups, self.outputs = self.rows.shape
        self.inputs = self.padded_index.shape[1]

    def weight(self, conv: Any) -> Array:
        """The weights (out, in) of which only those that are alive may differ from 0."""
        weight = arrays(conv)["weight"].reshape(conv.out_channels, -1)
        return weight if self.live is None else weight * self.live

    def packed(self, conv: Any) -> Array:
        """The weights that are alive, as `pointwise` reads them."""
        weight = self.weight(conv)
        packed = np.empty((self.groups, self.outputs // 4, self.index.shape[1], 4), weight.dtype)
        bookkeeping.pack(weight, self.rows, self.index, packed)
        return packed

    def exchanged(self, conv: Any) -> Array:
        """The same as `pointwise_backward` reads them."""
        weight = self.weight(conv)
        packed = np.empty((self.groups, self.inputs // 4, self.outputs, 4), weight.dtype)
        bookkeeping.pack_exchanged(weight, self.rows, self.index, packed)
        return packed

    def no_gradient(self, dtype: Any) -> Array:
        """Zeros to sum the gradient of the weights into, as `pointwise_backward` wants them."""
        return np.zeros((self.groups, self.inputs // 2, self.outputs // 4, 4, 2, 8), dtype)

    def gradient(self, lanes: Array, conv: Any) -> Tensor:
        """The gradient of the weights from what `pointwise_backward` summed up; 0 for what is pruned."""
        gradient = np.empty_like(arrays(conv)["weight"])
        flat = gradient.reshape(len(gradient), -1)
        bookkeeping.unpack(lanes, self.rows, self.index, flat)
        if self.live is not None:
            flat *= self.live
        return torch.from_numpy(gradient)


def _padded(array: Array, value: int) -> Array:
    """`array` with `value` behind its last axis, to a multiple of 4."""
    return np.pad(array, [(0, 0), (0, -array.shape[1] % 4)], constant_values=value)


_WIRINGS: WeakKeyDictionary[nn.Module, tuple[tuple[int, int], _Wiring]] = WeakKeyDictionary()


def _wiring(conv: nn.Module) -> _Wiring:
    """The wiring of a convolution, made anew only where its mask has changed."""
    mask = conv.mask if isinstance(conv, MaskedConv1x1) else None
    version = (0, 0) if mask is None else (mask.data_ptr(), mask._version)
    known = _WIRINGS.get(conv)
    if known is None or known[0] != version:
        known = _WIRINGS[conv] = version, _Wiring(conv)
    return known[1]


@lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1)


def _share(kernel: Callable[..., None], count: int, *arguments: Any, summed: tuple[Array, ...] = ()) -> None:
    """Call a kernel on 0 … count−1, shared among torch's threads; what it sums up, each thread sums apart."""
    threads = min(torch.get_num_threads(), count)
    if threads == 1:
        kernel(*arguments, *summed, 0, count)
        return
    ends = [count * thread // threads for thread in range(threads + 1)]
    parts = [summed, *(tuple(map(np.zeros_like, summed)) for _ in range(threads - 1))]
    pool = _pool(threads, os.getpid())
    others = [
        pool.submit(kernel, *arguments, *parts[thread], ends[thread], ends[thread + 1])
        for thread in range(1, threads)
    ]
    kernel(*arguments, *summed, ends[0], ends[1])
    for other in others:
        other.result()
    for part in parts[1:]:
        for whole, more in zip(summed, part, strict=True):
            np.add(whole, more, out=whole)


class _Moments:
    """Partial sums of every channel, and what they give."""

    def __init__(self, sizes: Array, channels: int, dtype: Any):
        self.sizes = sizes
        self.sums, self.deviations = np.empty((2, len(sizes), channels), dtype)

    def combined(self) -> Array:
        """Mean and biased variance of every channel, in float64: (2, C)."""
        result = np.empty((2, self.sums.shape[1]))
        bookkeeping.combine(self.sums, self.deviations, self.sizes, *result)
        return result


@dataclass(frozen=True)
class _Layout:
    """How the features of a batch lie: image by image, or, where images are small, pixel by pixel."""

    images: int
    height: int
    width: int

    @property
    def by_pixel(self) -> bool:
        """Whether neighbours in memory are the same pixel of different images."""
        return self.height * self.width <= SMALL_IMAGE and self.images >= kernels.LANES

    def empty(self, channels: int, dtype: torch.dtype) -> Tensor:
        """Room for features (N, channels, H, W)."""
        if self.by_pixel:
            return torch.empty(channels, self.height, self.width, self.images, dtype=dtype).permute(3, 0, 1, 2)
        return torch.empty(self.images, channels, self.height, self.width, dtype=dtype)

    def array(self, features: Tensor) -> Array:
        """Features that lie so, as kernels read them: (images, channels, pixels), or all images as one."""
        channels = features.shape[1]
        if self.by_pixel:
            return features.permute(1, 2, 3, 0).numpy().reshape(1, channels, -1)
        return features.numpy().reshape(self.images, channels, -1)

    @cached_property
    def pixels(self) -> int:
        """Of all images."""
        return self.images * self.height * self.width

    @cached_property
    def of_images(self) -> Array:
        """Pixels of each image that the kernels see."""
        return np.array([self.pixels]) if self.by_pixel else np.full(self.images, self.height * self.width)

    @cached_property
    def of_tiles(self) -> Array:
        """Pixels of each tile of a 1×1 convolution."""
        return kernels.tile_sizes(len(self.of_images), int(self.of_images[0]))

    @cached_property
    def each(self) -> int:
        """Images that a 3×3 convolution works on at a time."""
        return TOGETHER if self.by_pixel else kernels.cut(self.height * self.width)[0]

    @cached_property
    def of_parts(self) -> Array:
        """Pixels of each of a 3×3 convolution's sums: those of an image, or of images worked on together."""
        if not self.by_pixel:
            return self.of_images
        firsts = np.arange(0, self.images, self.each)
        return np.minimum(self.each, self.images - firsts) * (self.height * self.width)

    @cached_property
    def parts(self) -> int:
        """Pieces that a 3×3 convolution works on one after the other."""
        return -(-self.images // self.each)

    @cached_property
    def kernels(self) -> Any:
        """Where the 3×3 convolution's kernels are."""
        return small_images if self.by_pixel else kernels


@lru_cache(maxsize=64)
def _layout(images: int, height: int, width: int) -> _Layout:
    return _Layout(images, height, width)


def _norm(norm: Any, statistics: Array | None, pixels: int) -> Array:
    """A batch norm with a batch's statistics, which it tracks, or with its own, as kernels read it: (5, C).

    Scale and shift of the input x, then 1/σ, −μ/σ and γ.
    """
    own = arrays(norm)
    running = own["running_mean"], own["running_var"]
    if statistics is not None:
        bookkeeping.track(*statistics, pixels, norm.momentum, *running)
        own["num_batches_tracked"] += 1
    mean, variance = running if statistics is None else statistics
    result = np.empty((5, len(mean)), own["weight"].dtype)
    bookkeeping.scale_and_shift(mean, variance, norm.eps, own["weight"], own["bias"], result)
    return result


def _through_norm(norm: Array, gamma: Array, sums: Array, pixels: int) -> Array:
    affine = np.empty((3, len(gamma)), norm.dtype)
    bookkeeping.through_norm(norm, gamma, sums, pixels, affine)
    return affine


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.shape = x.shape
        out = torch.empty(*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2, dtype=x.dtype)
        _share(kernels.pool, len(x), x.detach().contiguous().numpy(), out.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor) -> Tensor:
        below = torch.empty(context.shape, dtype=above.dtype)
        _share(kernels.pool_backward, len(below), above.contiguous().numpy(), below.numpy())
        return below


class _Block(torch.autograd.Function):
    """A dense block from its input and its layers' parameters, in the order in which modules have them."""

    @staticmethod
    def forward(context: Any, x: Tensor, block: nn.Module, *parameters: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        layout, layers = _layout(count, height, width), _layers(block)
        total = channels + sum(_convolutions(layer)[1].out_channels for layer in layers)
        buffer = layout.empty(total, x.dtype)
        buffer[:, :channels] = x
        features = layout.array(buffer)
        context.save_for_backward(*parameters)  # torch refuses the backward pass once they have changed
        context.block, context.layout, context.buffer, context.kept = block, layout, buffer, []
        statistics = np.empty((2, total))
        if block.training:
            moments = _Moments(layout.of_images, channels, features.dtype)
            _share(kernels.statistics, len(features), features, channels, moments.sums, moments.deviations)
            statistics[:, :channels] = moments.combined()
        for layer in layers:
            conv, spatial = _convolutions(layer)
            known = statistics[:, :channels] if block.training else None
            first = _norm(layer["norm1"], known, layout.pixels)
            wiring = _wiring(conv)
            hidden = np.empty((len(features), conv.out_channels, features.shape[2]), features.dtype)
            moments = _Moments(layout.of_tiles, conv.out_channels, features.dtype)
            _share(
                kernels.pointwise, len(layout.of_tiles), features, first, wiring.index, wiring.packed(conv),
                wiring.rows, hidden, moments.sums, moments.deviations,
            )  # fmt: skip
            second = _norm(layer["norm2"], moments.combined() if block.training else None, layout.pixels)
            growth = spatial.out_channels
            moments = _Moments(layout.of_parts, growth, features.dtype)
            _share(
                layout.kernels.spatial, layout.parts, hidden, second, _packed_taps(spatial),
                growth // spatial.groups, layout.each, height, width, features, channels,
                moments.sums, moments.deviations,
            )  # fmt: skip
            if block.training:
                statistics[:, channels : channels + growth] = moments.combined()
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
        block, layout, features = context.block, context.layout, context.layout.array(context.buffer)
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
            _share(kernels.norm_backward, len(features), features, inner, affine, begin, gradient)

        for layer in reversed(_layers(block)):
            first, hidden, second = context.kept.pop()
            conv, spatial = _convolutions(layer)
            channels, growth = conv.in_channels, spatial.out_channels
            if channels + growth < total:
                settle(channels, channels + growth)
            outputs, read = growth // spatial.groups, conv.out_channels // spatial.groups
            lanes = np.zeros((spatial.groups, -(-outputs // 2), -(-9 * read // 4), 2, 4, 8), dtype)
            dy, sums = np.empty_like(hidden), np.zeros((2, conv.out_channels))
            _share(
                layout.kernels.spatial_backward, layout.parts, hidden, second, _exchanged_taps(spatial),
                gradient, channels, layout.each, height, width, dy, summed=(lanes, sums[0], sums[1]),
            )  # fmt: skip
            dtaps = np.empty_like(arrays(spatial)["weight"])
            bookkeeping.unpack_taps(lanes, dtaps)
            affine = _through_norm(second, second[4], sums, layout.pixels)
            wiring, own = _wiring(conv), np.zeros((2, channels))
            lanes = wiring.no_gradient(dtype)
            _share(
                kernels.pointwise_backward, len(layout.of_tiles), features, first, wiring.padded_index,
                wiring.exchanged(conv), wiring.rows, hidden, dy, affine, inner, summed=(lanes, own[0], own[1]),
            )  # fmt: skip
            outer[:, :channels] += first[4] * own
            of_first, of_second = (torch.from_numpy(both.astype(dtype)) for both in (own, sums))
            dweight, dspatial = wiring.gradient(lanes, conv), torch.from_numpy(dtaps)
            grads = [of_first[1], of_first[0], dweight, of_second[1], of_second[0], dspatial, *grads]
        settle(0, conv.in_channels)
        return out[:, : conv.in_channels], None, *grads


def _layers(block: nn.Module) -> list[dict[str, Any]]:
    """The modules of each layer of a block."""
    return [layer._modules for layer in block._modules.values()]  # type: ignore[union-attr]


def _convolutions(layer: Any) -> tuple[Any, Any]:
    """The 1×1 and the 3×3 convolution among the modules of a layer."""
    return layer["conv1"], layer["conv2"]


def _packed_taps(conv: Any) -> Array:
    """The weight of a 3×3 convolution as `spatial` reads it."""
    outputs, read = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    rows = 2 if outputs <= 2 else 4
    taps = arrays(conv)["weight"]
    packed = np.empty((conv.groups, -(-outputs // rows), 9 * read, rows), taps.dtype)
    bookkeeping.pack_taps(taps, packed)
    return packed


def _exchanged_taps(conv: Any) -> Array:
    """The same as `spatial_backward` reads it."""
    outputs, read = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    taps = arrays(conv)["weight"]
    packed = np.empty((conv.groups, -(-read // 4), 9 * outputs, 4), taps.dtype)
    bookkeeping.pack_taps_exchanged(taps, packed)
    return packed
