"""Masked layers in condensed form: an index of the surviving inputs, and a grouped layer of their weights."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from condense_core.grouping import LearnedGroupLinear, Masked, MaskedConv, UnstructuredConv, weight_mask

from .blocks import CondensedLayer, GroupedLinear, Index


def check_shares(name: str, layer: Masked) -> None:
    """Raise ValueError if a layer cannot be condensed."""
    if isinstance(layer, UnstructuredConv):
        reason = "single weights are pruned (grouping 'unstructured'), which no group can skip"
        raise ValueError(f"{name}: {reason}")
    kept = layer.mask.sum(1)
    if len(kept.unique()) > 1:
        shares = kept.tolist()
        raise ValueError(f"{name}: groups keep {shares} inputs, but a grouped convolution needs equal shares")
    if not kept.any():
        raise ValueError(f"{name}: groups keep no inputs, but a convolution needs some")


@torch.no_grad()
def condense_layer(layer: Masked) -> nn.Module:
    """Build the module that replaces a masked layer anywhere: index → grouped layer → order of the outputs.

    What would change nothing is left out: a layer that is not pruned becomes a standard one.
    """
    axis = -1 if isinstance(layer, nn.Linear) else -3
    if layer.mask.all():
        return dense_layer(layer)
    order = output_order(layer)
    parts = OrderedDict[str, nn.Module](index=Index(layer.mask.nonzero()[:, 1], axis))
    if isinstance(layer, MaskedConv):
        parts["conv"] = grouped_conv(layer, order)
    else:
        parts["linear"] = _grouped_linear(layer, order)
    if not is_sorted(order):
        parts["shuffle"] = Index(order.argsort(), axis)
    return CondensedLayer(parts).train(layer.training)


def output_order(layer: Masked) -> Tensor:
    """List the outputs of a masked layer group by group, the order that a grouped convolution has."""
    outputs = torch.arange(len(layer.weight), device=layer.weight.device)
    return outputs.view(-1, len(layer.mask)).t().flatten() if layer.permute else outputs


def is_sorted(order: Tensor) -> bool:
    """Return whether a permutation changes nothing."""
    return bool((order.diff() > 0).all())


def grouped_conv(conv: MaskedConv, order: Tensor) -> nn.Conv2d:
    """Build the grouped convolution of the surviving weights, its outputs in `order`."""
    return convolution(conv, _live_weights(conv, order), _biases(conv, order), len(conv.mask))


def dense_layer(layer: Any) -> nn.Module:
    """Build the standard layer of one that is not pruned."""
    if isinstance(layer, LearnedGroupLinear):
        return linear(layer, layer.weight, layer.bias)
    return convolution(layer, layer.weight, layer.bias, 1)


def convolution(like: Any, weight: Tensor, bias: Tensor | None, groups: int) -> Any:
    """Build a convolution of these weights with the stride, padding and dilation of another."""
    rank = weight.dim() - 2
    own = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1](
        weight.shape[1] * groups, len(weight), like.kernel_size, like.stride, like.padding, like.dilation,
        groups, bias is not None, like.padding_mode,
    )  # fmt: skip
    return with_state(own, weight=weight, **_given(bias)).train(like.training)


def linear(like: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Build a linear layer of these weights."""
    outputs, inputs = weight.shape
    own = nn.Linear(inputs, outputs, bias is not None)
    return with_state(own, weight=weight, **_given(bias)).train(like.training)


def _grouped_linear(layer: Any, order: Tensor) -> nn.Module:
    weight, groups = _live_weights(layer, order), len(layer.mask)
    bias = _biases(layer, order)
    if groups == 1:
        return linear(layer, weight, bias)
    outputs, kept = weight.shape
    own = GroupedLinear(groups * kept, outputs, groups, bias is not None)
    return with_state(own, weight=weight.view(groups, -1, kept), **_given(bias)).train(layer.training)


def _live_weights(layer: Masked, order: Tensor) -> Tensor:
    """Return the surviving weights of outputs in `order`: (out, kept, …)."""
    live = weight_mask(layer.mask, len(layer.weight), layer.permute)[order]
    return layer.weight[order][live].view(len(order), -1, *layer.weight.shape[2:])


def _biases(layer: Any, order: Tensor) -> Tensor | None:
    return None if layer.bias is None else layer.bias[order]


def _given(bias: Tensor | None) -> dict[str, Tensor]:
    return {} if bias is None else {"bias": bias}


def select_channels(norm: Any, index: Tensor) -> Any:
    """Build the batch norm of the channels at `index`."""
    state = {name: tensor[index] if tensor.dim() else tensor for name, tensor in norm.state_dict().items()}
    settings = norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    return with_state(type(norm)(len(index), *settings), **state).train(norm.training)


def with_state(module: Any, **state: Tensor) -> Any:
    """Load `state` into `module`, on the device and in the type of that state."""
    module = module.to(next(iter(state.values())))
    module.load_state_dict({name: tensor.detach() for name, tensor in state.items()})
    return module
