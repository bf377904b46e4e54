"""What one call of an operator of torch costs: `macs` of products, and what the paper adds to them.

Products are counted by the formulas of `torch.utils.flop_counter`. By convention nothing else has
multiply-adds: norms, activations, softmax, pooling, interpolation and other element-wise arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch._ops import OpOverload
from torch.utils.flop_counter import flop_registry

from .table import LayerCost

Arguments = tuple[Any, ...]

NOT_COUNTED = "not counted"
"""The kind of an operator that has products, but no formula."""


def cost_of(operator: OpOverload, arguments: Arguments, output: Any) -> LayerCost | None:
    """Return the cost of a call without its parameters, under the operator's name; None if it has none."""
    name = operator._overloadpacket.__name__.strip("_")
    if count := _formula(operator, name):
        return _product(name, arguments, output, count(arguments, output))
    if handle := HANDLES.get(name):
        return handle(name, arguments, output)
    if NORMS.search(name):
        return _norm(name, arguments, output)
    if operator.namespace not in KNOWN or PRODUCTS.match(name):
        return LayerCost(name, NOT_COUNTED, 0, 0, 1, 0, 0, 0, 0)
    return None


def _formula(operator: OpOverload, name: str) -> Callable[[Arguments, Any], int] | None:
    """Return how the multiply-adds of an operator follow from its arguments and its output."""
    if name.startswith("scaled_dot_product") and "backward" not in name:
        return _attention  # of whatever processor; torch lacks the formula for CPUs
    if name in VECTORS:
        return lambda arguments, _: arguments[VECTORS[name]].numel()
    if flops := flop_registry.get(operator._overloadpacket):
        return lambda arguments, output: flops(*arguments, out_val=output) // 2
    return None


def _attention(arguments: Arguments, _: Any) -> int:
    query, key, value = arguments[:3]  # (…, heads, length, width)
    return query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _product(name: str, arguments: Arguments, output: Any, macs: int) -> LayerCost:
    if name.endswith("convolution"):
        return _convolution(name, arguments, output, macs)
    if name in ("mm", "addmm"):
        biases = output.numel() if name == "addmm" else 0
        inputs, outputs = arguments[-1].shape
        return LayerCost(name, "linear", inputs, outputs, 1, 1, macs, macs + biases, 0)
    first = output[0] if isinstance(output, tuple) else output
    inputs, outputs = (tensor.shape[-1] if tensor.dim() else 1 for tensor in (arguments[0], first))
    return LayerCost(name, "product", inputs, outputs, 1, 1, macs, macs, 0)


def _convolution(name: str, arguments: Arguments, y: Tensor, macs: int) -> LayerCost:
    x, weight, is_transposed, groups = arguments[0], arguments[1], arguments[6], arguments[8]
    kind = ("conv_transpose" if is_transposed else "conv") + "x".join(map(str, weight.shape[2:]))
    return LayerCost(name, kind, x.shape[1], y.shape[1], groups, _size(y), macs, macs, 0)


def _norm(name: str, arguments: Arguments, output: Any) -> LayerCost:
    x = arguments[0]
    channels = x.shape[-1 if "layer" in name or "rms" in name else 1]
    return LayerCost(name, "norm", channels, channels, 1, _size(x), 0, 0, 0)


def _relu(name: str, arguments: Arguments, y: Tensor) -> LayerCost:
    channels = y.shape[1] if y.dim() > 1 else 1
    return LayerCost(name, "relu", channels, channels, 1, _size(y), 0, y.numel(), 0)


def _average_pool(name: str, arguments: Arguments, y: Tensor) -> LayerCost | None:
    x = arguments[0]
    height, width = y.shape[2:] if y.dim() == x.dim() else (1, 1)
    window = (x.shape[-2] // height) * (x.shape[-1] // width)
    return LayerCost(name, "pool", x.shape[-3], x.shape[-3], 1, height, 0, y.numel() * window, 0)


def _mean(name: str, arguments: Arguments, y: Tensor) -> LayerCost | None:
    """A mean over the pixels is an average pool; others, as in a norm that is written out, are not."""
    x, *axes = arguments[:2]
    over_pixels = x.dim() == 4 and bool(axes and axes[0]) and {axis % 4 for axis in axes[0]} == {2, 3}
    return _average_pool(name, arguments, y) if over_pixels else None


def _size(y: Tensor) -> int:
    return y.shape[2] if y.dim() == 4 else 1


HANDLES: dict[str, Callable[[str, Arguments, Any], LayerCost | None]] = {
    "relu": _relu,
    "hardtanh": _relu,  # ReLU6
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _average_pool,
    "mean": _mean,
}
"""What the paper counts besides products."""

VECTORS = {"mv": 0, "addmv": 1, "dot": 0, "vdot": 0}
"""Products with a vector: which argument has a number for each multiply-add."""

NORMS = re.compile("(batch|layer|group|rms)_norm")

KNOWN = ("aten", "prim", "prims", "profiler")
"""Where operators come from whose names say whether they are products; others are extensions."""

PRODUCTS = re.compile(
    r"(?!upsample|linalg_vector_norm|linalg_cross).*"
    r"(mm(_|$)|mv$|dot|matmul|conv(?!ert)|linear|attention|transformer|rnn|lstm|gru|fft|cdist|linalg|solve"
    r"|cholesky|svd|inverse|sparse_|quantized)"
)
"""Names of operators that have products."""
