"""A condensed network as an ONNX graph of plain convolutions, each part of it in a chosen form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from condense_core.model import CondenseNet, Transition

from .onnx_layers import Form, Pointwise, merge_groups, numbers, read_pointwise, scale_and_shift

Array = np.ndarray
OPSET, IR = 18, 10  # of 2023: runtimes of the last years read them


class Graph:
    """Nodes and constants of an ONNX graph; every method adds nodes and returns the name of their result."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node."""
        from onnx import helper

        name = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, array: Array) -> str:
        """Add a constant; floats in float32."""
        from onnx import numpy_helper

        name = f"constant{len(self._constants)}"
        own = array.astype(np.float32) if array.dtype.kind == "f" else array
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(own), name))
        return name

    def conv(self, x: str, weight: Array, bias: Array | None = None, groups: int = 1, stride: int = 1) -> str:
        """Add a convolution of weights (O, I / groups, k, k), filled up with zeros at the border."""
        size = weight.shape[-1]
        inputs = [x, self.constant(weight), *([] if bias is None else [self.constant(bias)])]
        shape = {"kernel_shape": [size] * 2, "pads": [size // 2] * 4, "strides": [stride] * 2}
        return self.add("Conv", *inputs, group=groups, **shape)

    def norm_relu(self, x: str, scale: Array, shift: Array) -> str:
        """Add a batch norm, which runtimes fuse with the ReLU or turn into a convolution, and the ReLU."""
        none = np.zeros(scale.size)
        values = [self.constant(own.ravel()) for own in (scale, shift, none, none + 1)]
        return self.add("Relu", self.add("BatchNormalization", x, *values, epsilon=0.0))

    def gather(self, x: str, channels: Array, of: int) -> str:
        """Select channels of `of`, if they are not all in their order."""
        if np.array_equal(channels, np.arange(of)):
            return x
        return self.add("Gather", x, self.constant(channels.astype(np.int64)), axis=1)

    def model(self, result: str, shape: tuple[int, ...], rank: int) -> bytes:
        """Return the file of a graph from 'images' (N, *shape) to 'logits', whose shape has `rank` sizes."""
        from onnx import TensorProto, helper

        kind = TensorProto.FLOAT
        self._nodes.append(helper.make_node("Identity", [result], ["logits"]))
        images = helper.make_tensor_value_info("images", kind, ["batch", *shape])
        logits = helper.make_tensor_value_info("logits", kind, ["batch", *[None] * (rank - 1)])
        graph = helper.make_graph(self._nodes, "condensed", [images], [logits], self._constants)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR).SerializeToString()


def network_file(model: CondenseNet, forms: Mapping[str, Form]) -> bytes:
    """Return the ONNX file of a condensed network, (N, 3, H, W) → (N, classes), by the forms of its parts.

    Raise ValueError if its weights are not float32.
    """
    if model.stem.weight.dtype != torch.float32:
        raise ValueError(f"weights of type {model.stem.weight.dtype}: an ONNX file is written in float32")
    graph = Graph()
    x = graph.conv("images", numbers(model.stem.weight), stride=model.stem.stride[0])
    channels = model.stem.out_channels
    for name, part in model.blocks.named_children():
        x, channels = _part(graph, x, part, channels, forms[name])
    x = graph.add("Flatten", graph.add("GlobalAveragePool", graph.norm_relu(x, *scale_and_shift(model.norm))))
    classifier: Any = model.classifier
    if isinstance(classifier, nn.Sequential):
        index, classifier = classifier.get_submodule("index"), classifier.get_submodule("linear")
        x = graph.gather(x, numbers(index.index).astype(np.int64), channels)  # type: ignore[arg-type]
    weights = graph.constant(numbers(classifier.weight)), graph.constant(numbers(classifier.bias))
    size = model.config.image_size
    return graph.model(graph.add("Gemm", x, *weights, transB=1), (3, size, size), 2)


def part_file(part: nn.Module, form: Form, shape: tuple[int, ...]) -> bytes:
    """Return the ONNX file of a block or transition alone, for inputs (N, *shape)."""
    graph = Graph()
    x, _ = _part(graph, "images", part, shape[0], form)
    return graph.model(x, shape, 4)


def _part(graph: Graph, x: str, part: nn.Module, channels: int, form: Form) -> tuple[str, int]:
    """Add a block or transition; return its result and how many channels it has."""
    if isinstance(part, Transition):
        return _transition(graph, x, part, channels, form)
    for layer in part.children():
        own: Any = layer._modules
        x = graph.add("Concat", x, _layer(graph, x, own, channels, form), axis=1)
        channels += own["conv2"].out_channels
    return x, channels


def _layer(graph: Graph, x: str, parts: Mapping[str, Any], channels: int, form: Form) -> str:
    pointwise = read_pointwise(parts, "norm1", "conv1").in_form(form.pointwise, channels)
    conv, order = parts["conv2"], pointwise.places.ravel()
    hidden = graph.add("Relu", _product(graph, _read(graph, x, pointwise, channels), pointwise))
    weight = merge_groups(numbers(conv.weight), conv.groups, form.groups_3x3)
    if form.groups_3x3 == 1:
        weight = weight[:, order]  # no shuffle
    else:
        hidden = graph.gather(hidden, np.argsort(order), len(order))
    return graph.conv(hidden, weight, groups=form.groups_3x3)


def _transition(graph: Graph, x: str, part: Transition, channels: int, form: Form) -> tuple[str, int]:
    """Add a transition. It pools before the 1×1 convolution, which changes nothing: both are linear."""
    size: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    if "conv" not in part._modules:
        return graph.add("AveragePool", x, **size), channels
    pointwise = read_pointwise(part._modules, "norm", "conv").in_form(form.pointwise, channels)
    x = graph.add("AveragePool", _read(graph, x, pointwise, channels), **size)
    order = pointwise.places.ravel()
    return graph.gather(_product(graph, x, pointwise), np.argsort(order), len(order)), len(order)


def _read(graph: Graph, x: str, pointwise: Pointwise, channels: int) -> str:
    """Add what precedes a 1×1 convolution: its inputs, normalised."""
    return graph.norm_relu(
        graph.gather(x, pointwise.inputs.ravel(), channels), pointwise.scale, pointwise.shift
    )


def _product(graph: Graph, x: str, pointwise: Pointwise) -> str:
    weight = pointwise.weight.reshape(-1, pointwise.weight.shape[2], 1, 1)
    return graph.conv(x, weight, pointwise.bias.ravel(), groups=len(pointwise.weight))
