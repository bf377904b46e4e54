"""The cost of a live model with its present masks: every layer that an image passes is counted."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from condense_core.grouping import LearnedGroupLinear, MaskedConv1x1
from condense_core.looking import blank_image, evaluating
from condense_core.model import CondenseNet

from . import check_image_size
from .table import CostTable, LayerCost


def _size_of_images(model: nn.Module, given: int | None) -> int:
    """Return the size of a CondenseNet's images, or the given one of another model."""
    if isinstance(model, CondenseNet):
        check_image_size(given, model.config.image_size, "model")
        return model.config.image_size
    if given is None:
        raise ValueError(
            f"image_size: missing; a {type(model).__name__} does not say for which images it is; "
            "give their height and width in pixels, such as image_size=224"
        )
    if type(given) is not int or given < 1:
        raise ValueError(f"image_size {given!r}: must be a whole number of pixels, at least 1")
    return given


def measure(model: nn.Module, image_size: int | None) -> CostTable:
    """Measure the cost of a model for an image of `image_size` pixels; a CondenseNet knows its own size.

    Warns of products that are not counted. Raises ValueError if the model cannot read such an image.
    """
    model = _unwrapped(model)
    size, counter = _size_of_images(model, image_size), _Counter()
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        for name, module in model.named_modules():
            if count := _count_of(module):
                for hook in counter.register(name, module, count):
                    stack.enter_context(hook)
        stack.enter_context(counter)
        try:
            model(blank_image(model, size))
        except RuntimeError as error:
            reason = str(error).split("\n", 1)[0]
            image = f"a black image (1, 3, {size}, {size})"
            text = f"image_size {size}: a {type(model).__name__} cannot read {image}: {reason}"
            raise ValueError(text) from error
    if counter.left_out:
        counts = ", ".join(f"{number} {name}" for name, number in sorted(counter.left_out.items()))
        warnings.warn(f"cost_table does not count all of the model: {counts} left out", stacklevel=3)
    return CostTable((*counter.layers, *_others(model, counter)))


def _others(model: nn.Module, counter: _Counter) -> Iterator[LayerCost]:
    """Yield a row for parameters of modules that are not counted, such as embeddings and other norms."""
    inside = {id(own) for module in counter.seen for own in module.parameters()}
    if left := sum(own.numel() for own in model.parameters() if id(own) not in inside):
        yield LayerCost("other parameters", "other", 0, 0, 1, 0, 0, 0, left)


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the model that torch.compile or a parallel wrapper runs."""
    while True:
        if "_orig_mod" in model._modules:
            model = model.get_submodule("_orig_mod")
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


class _Counter(TorchFunctionMode):
    """Counts layers, and the ReLUs and average pools that a network calls as functions outside of them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[LayerCost] = []
        self.left_out: Counter[str] = Counter()
        self.seen: set[nn.Module] = set()
        self.depth = 0  # of the counted layers that are running: their calls belong to them

    def register(self, name: str, module: nn.Module, count: Count) -> list[RemovableHandle]:
        """Let a layer report that it runs, and what it costs."""

        def enter(*_: Any) -> None:
            self.depth += 1

        def leave(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            cost = count(name, module, inputs[0], output)
            self.layers.append(replace(cost, params=0) if module in self.seen else cost)  # called again
            self.seen.add(module)
            self.depth -= 1

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        output = function(*arguments, **(named or {}))
        name = getattr(function, "__name__", "").rstrip("_")
        if not self.depth and name in FUNCTIONS:
            self.layers.append(FUNCTIONS[name](f"{name}()", None, arguments[0], output))
        elif not self.depth and name == "mean" and arguments[0].dim() == 4 and output.dim() >= 2:
            self.layers.append(_average_pool("mean()", None, arguments[0], output))  # type: ignore[arg-type]
        elif not self.depth and name.strip("_") in UNCOUNTED:
            self.left_out[name.strip("_")] += 1
        return output


def _masked(name: str, module: MaskedConv1x1, x: Tensor, y: Tensor) -> LayerCost:
    weights = int(module.mask.sum()) * module.out_channels // module.groups
    macs = weights * _numbers(y[:, 0])
    return _cost(name, "conv1x1", x, y, macs, macs, weights, module.groups)


def _convolution(name: str, module: nn.Conv2d, x: Tensor, y: Tensor) -> LayerCost:
    macs = module.weight.numel() * _numbers(y[:, 0])
    size = module.kernel_size[0]
    return _cost(name, f"conv{size}x{size}", x, y, macs, macs, _parameters(module), module.groups)


def _linear(name: str, module: nn.Linear, x: Tensor, y: Tensor) -> LayerCost:
    weights = module.weight.numel()
    if isinstance(module, LearnedGroupLinear):
        weights = int(module.mask.sum()) * module.out_features
    biases, places = 0 if module.bias is None else module.out_features, y.shape[1:-1].numel()
    macs, flops = weights * places, (weights + biases) * places
    return _cost(name, "linear", x, y, macs, flops, weights + biases)


def _norm(name: str, module: nn.Module, x: Tensor, y: Tensor) -> LayerCost:
    return _cost(name, "norm", x, y, 0, 0, _parameters(module))


def _relu(name: str, module: nn.Module, x: Tensor, y: Tensor) -> LayerCost:
    return _cost(name, "relu", x, y, 0, _numbers(y), 0)


def _average_pool(name: str, module: nn.Module, x: Tensor, y: Tensor) -> LayerCost:
    height, width = y.shape[2:] if y.dim() == 4 else (1, 1)
    window = (x.shape[2] // height) * (x.shape[3] // width)
    return _cost(name, "pool", x, y, 0, _numbers(y) * window, 0)


def _numbers(y: Tensor) -> int:
    """Return how many numbers an image has in a tensor (N, …)."""
    return y.shape[1:].numel()


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _cost(
    name: str, operator: str, x: Tensor, y: Tensor, macs: int, flops_paper: int, params: int, groups: int = 1
) -> LayerCost:
    size = y.shape[2] if y.dim() == 4 else 1
    return LayerCost(name, operator, x.shape[1], y.shape[1], groups, size, macs, flops_paper, params)


Count = Callable[[str, Any, Tensor, Tensor], LayerCost]

HANDLES: dict[type[nn.Module], Count] = {
    MaskedConv1x1: _masked,
    nn.Conv2d: _convolution,
    nn.Linear: _linear,
    nn.BatchNorm2d: _norm,
    nn.ReLU: _relu,
    nn.ReLU6: _relu,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _average_pool,
}
"""How each kind of layer is counted; others cost nothing."""

FUNCTIONS: dict[str, Count] = {
    "relu": _relu,
    "relu6": _relu,
    "hardtanh": _relu,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _average_pool,
}
"""How calls of functions are counted; a mean over the pixels is an average pool too."""


UNCOUNTED = frozenset(
    (
        *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        *("linear", "bilinear", "matmul", "mm", "bmm", "baddbmm", "addmm", "einsum", "lstm", "gru"),
        *("scaled_dot_product_attention", "multi_head_attention_forward", "rnn_tanh", "rnn_relu"),
    )
)
"""Products outside of the layers that are counted: a warning names them."""


def _count_of(module: nn.Module) -> Count | None:
    return next((count for kind, count in HANDLES.items() if isinstance(module, kind)), None)
