"""What a node of a traced network does with the channels (axis 1) of what it reads."""

from __future__ import annotations

import operator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import Node
from torchvision.ops import stochastic_depth

from ..blocks import Index
from .graph import Network

Kind = Literal["index", "conv", "linear", "depthwise", "norm", "map", "join", "cat", "other"]
"""A map, a norm and a depthwise convolution work channel by channel; a join does so with several tensors.

What reads or makes its channels in other ways, or is not known, is 'other'.
"""

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
MAPS: set[Any] = {
    nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.Dropout, nn.Dropout2d, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish,
    nn.Hardtanh, nn.Identity, nn.LeakyReLU, nn.MaxPool2d, nn.Mish, nn.ReLU, nn.ReLU6, nn.SELU, nn.Sigmoid,
    nn.SiLU, nn.Softplus, nn.Tanh, nn.Upsample, nn.ZeroPad2d,
    F.adaptive_avg_pool2d, F.avg_pool2d, F.dropout, F.dropout2d, F.elu, F.gelu, F.hardsigmoid, F.hardswish,
    F.hardtanh, F.interpolate, F.leaky_relu, F.max_pool2d, F.mish, F.relu, F.relu6, F.selu, F.sigmoid, F.silu,
    F.softplus, F.tanh, torch.clamp, torch.relu, torch.sigmoid, torch.tanh, stochastic_depth,
    "clamp", "contiguous", "relu", "relu_", "sigmoid", "tanh",
}  # fmt: skip
JOINS: set[Any] = {
    operator.add, operator.iadd, operator.sub, operator.mul, operator.imul, operator.truediv,
    torch.add, torch.mul, torch.sub, "add", "add_", "mul", "mul_", "sub",
}  # fmt: skip
CATS = {torch.cat, torch.concat, torch.concatenate}


def kind_of(network: Network, node: Node) -> Kind:
    """Return what a node does with channels."""
    inputs, shape = node.all_input_nodes, network.shapes.get(node, ())
    known = [network.shapes.get(own, ()) for own in inputs]
    if len(shape) < 2 or not inputs or any(len(own) < 2 for own in known):
        return "other"
    called = network.called(node)
    if called in JOINS:
        return _kind_of_arithmetic(shape, known)
    if called in CATS:
        axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        return (
            "cat"
            if axis in (1, 1 - len(shape)) and not set(map(type, concatenated(node))) - {Node}
            else "other"
        )
    if len(inputs) != 1:
        return "other"
    return _kind_of_call(network, node, called, shape, known[0])


def concatenated(node: Node) -> Any:
    """Return what a concatenation puts together."""
    return node.args[0] if node.args else node.kwargs["tensors"]


def _kind_of_arithmetic(shape: tuple[int, ...], inputs: list[tuple[int, ...]]) -> Kind:
    """Arithmetic with numbers is a map; of tensors with other channels or ranks it is not known."""
    if any(own[:2] != shape[:2] or len(own) != len(shape) for own in inputs):
        return "other"
    return "map" if len(inputs) == 1 else "join"


def _kind_of_call(
    network: Network, node: Node, called: Any, shape: tuple[int, ...], read: tuple[int, ...]
) -> Kind:
    module = network.module(node)
    if called is Index:
        return "index" if module.axis in (1, 1 - len(read)) else "other"
    if called in CONVOLUTIONS and network.is_replaceable(node) and len(read) == module.weight.dim():
        return _kind_of_convolution(module)
    if called is nn.Linear and network.is_replaceable(node) and len(read) == 2:
        return "linear"
    if called in NORMS and network.is_replaceable(node) and module.running_mean is not None:
        return "norm"
    if read[:2] == shape[:2] and (called in MAPS or _is_flat(network, node, called)):
        return "map"
    return "other"


def _kind_of_convolution(module: Any) -> Kind:
    if module.groups == module.in_channels == module.out_channels > 1:
        return "depthwise"
    return "conv"


def _is_flat(network: Network, node: Node, called: Any) -> bool:
    """Return whether a node drops axes of a size of 1, or takes the mean of pixels: channels stay channels."""
    arguments = node.args[1:]
    if called in ("mean", torch.mean):
        axes = node.kwargs.get("dim", arguments[0] if arguments else None)
        rank = len(network.shapes[node.all_input_nodes[0]])
        return isinstance(axes, list | tuple) and {axis % rank for axis in axes} == set(range(2, rank))
    if called in ("flatten", torch.flatten):
        start: Any = node.kwargs.get("start_dim", arguments[0] if arguments else 0)
        return start == 1 and len(arguments) < 2 and _is_pooled(network, node.all_input_nodes[0])
    if called is nn.Flatten:
        return network.module(node).start_dim == 1 and _is_pooled(network, node.all_input_nodes[0])
    return False


def _is_pooled(network: Network, node: Node) -> bool:
    """Return whether a node gives one pixel, whatever the size of the images."""
    module, called = network.module(node), network.called(node)
    if called is nn.AdaptiveAvgPool2d:
        return module.output_size in (1, (1, 1))
    if called is F.adaptive_avg_pool2d:
        size = node.kwargs.get("output_size", node.args[1] if len(node.args) > 1 else None)
        return size in (1, (1, 1))
    single = len(node.all_input_nodes) == 1 and called in (nn.Dropout, F.dropout, nn.Identity)
    return single and _is_pooled(network, node.all_input_nodes[0])
