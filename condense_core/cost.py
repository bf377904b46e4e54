"""What a network costs, layer by layer, under two named conventions.

`macs`: multiply-adds of convolutions and linear layers; a masked convolution counts the connections that
survive. `flops_paper`: what the paper reports and the official code prints (utils.py, measure_layer):
those of convolutions, one per ReLU element, k² per average-pool output, weights + biases of the linear layer.
`params`: live weights plus all other learnable parameters; the paper counts the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from .condensation import kept_in_stage
from .config import ModelConfig
from .grouping import LearnedGroupLinear, Masked, MaskedConv1x1
from .model import CondenseNet

Live = Callable[[Masked], int]  # how many connections of a masked layer survive


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer for one image; `output_size` is the height of its output in pixels."""

    name: str
    operator: str
    in_channels: int
    out_channels: int
    groups: int
    output_size: int
    macs: int
    flops_paper: int
    params: int


@dataclass(frozen=True)
class CostTable:
    """Cost of a network for one image: its layers in the order of execution, and their sums."""

    layers: tuple[LayerCost, ...]

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def flops_paper(self) -> int:
        """FLOPs as the paper counts them."""
        return sum(layer.flops_paper for layer in self.layers)

    @property
    def params(self) -> int:
        """Live weights plus all other learnable parameters."""
        return sum(layer.params for layer in self.layers)


def cost_table(network: ModelConfig | nn.Module, stage: int | None = None, image_size: int = 32) -> CostTable:
    """The cost of a configuration in `stage` (default: the last one), or of a live model as its masks are.

    A model other than a CondenseNet is measured at `image_size` pixels. Raises ValueError for a stage
    that the configuration does not have.
    """
    if isinstance(network, ModelConfig):
        stage = network.last_stage if stage is None else stage
        if not 0 <= stage <= network.last_stage:
            raise ValueError(f"stage {stage}: must be 0 to {network.last_stage}")
        return _cost_of_config(network, stage)
    if isinstance(network, CondenseNet):
        image_size = network.config.image_size
    return _measure(network, image_size, live_connections)


@lru_cache(maxsize=4096)
def _cost_of_config(config: ModelConfig, stage: int) -> CostTable:
    with torch.device("meta"):  # shapes only: no weight is ever drawn
        model = CondenseNet(config, seed=0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # keeps shapes, and would take most of the time
            module.forward = nn.Identity().forward  # type: ignore[method-assign]
    live = partial(connections_in_stage, stage=stage, last_stage=config.last_stage)
    # no image costs no time; meta tensors would do as well, but their first sum imports torch's compiler
    return _measure(model.to_empty(device="cpu"), config.image_size, live, images=0)


@torch.no_grad()
def _measure(model: nn.Module, image_size: int, live: Live, images: int = 1) -> CostTable:
    layers: list[LayerCost] = []

    def hook(name: str, count: Count) -> Callable[..., None]:
        def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            layers.append(count(name, module, inputs[0], output, live))

        return record

    calls = _FunctionCalls(layers)
    handles: list[RemovableHandle] = []
    for name, module in model.named_modules():
        if count := _handle(module):
            handles.append(module.register_forward_pre_hook(calls.enter))
            handles.append(module.register_forward_hook(hook(name, count)))
            handles.append(module.register_forward_hook(calls.leave))
    training, parameter = model.training, next(model.parameters())
    image = torch.zeros(images, 3, image_size, image_size, device=parameter.device, dtype=parameter.dtype)
    try:
        with calls:
            model.eval()(image)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return CostTable(tuple(layers))


class _FunctionCalls(TorchFunctionMode):
    """Counts ReLUs and average pools that a network calls as functions, outside of the layers counted."""

    def __init__(self, layers: list[LayerCost]):
        super().__init__()
        self.layers, self.inside = layers, 0

    def enter(self, *_: Any) -> None:
        """A layer that is counted begins."""
        self.inside += 1

    def leave(self, *_: Any) -> None:
        """A layer that was counted ends."""
        self.inside -= 1

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        output = function(*arguments, **(named or {}))
        name = getattr(function, "__name__", "").rstrip("_")
        if not self.inside and name in FUNCTIONS:
            self.layers.append(FUNCTIONS[name](f"{name}()", None, arguments[0], output, live_connections))
        elif not self.inside and name == "mean" and arguments[0].dim() == 4 and output.dim() >= 2:
            self.layers.append(_average_pool("mean()", None, arguments[0], output, live_connections))  # type: ignore[arg-type]
        return output


def live_connections(layer: Masked) -> int:
    """Surviving (group, input) pairs of a masked layer, as its mask is."""
    return int(layer.mask.sum())


def connections_in_stage(layer: Masked, stage: int, last_stage: int) -> int:
    """Surviving (group, input) pairs of a masked layer in `stage` of a network's 0 … `last_stage`."""
    return layer.groups * kept_in_stage(layer, stage, last_stage)


def _masked(name: str, module: MaskedConv1x1, x: Tensor, y: Tensor, live: Live) -> LayerCost:
    weights = live(module) * module.out_channels // module.groups
    macs = weights * _numbers(y[:, 0])
    return _cost(name, "conv1x1", x, y, macs, macs, weights, module.groups)


def _convolution(name: str, module: nn.Conv2d, x: Tensor, y: Tensor, live: Live) -> LayerCost:
    macs = module.weight.numel() * _numbers(y[:, 0])
    size = module.kernel_size[0]
    return _cost(name, f"conv{size}x{size}", x, y, macs, macs, _parameters(module), module.groups)


def _linear(name: str, module: nn.Linear, x: Tensor, y: Tensor, live: Live) -> LayerCost:
    weights = module.weight.numel()
    if isinstance(module, LearnedGroupLinear):
        weights = live(module) * module.out_features
    biases = 0 if module.bias is None else module.out_features
    return _cost(name, "linear", x, y, weights, weights + biases, weights + biases)


def _norm(name: str, module: nn.Module, x: Tensor, y: Tensor, live: Live) -> LayerCost:
    return _cost(name, "norm", x, y, 0, 0, _parameters(module))


def _relu(name: str, module: nn.Module, x: Tensor, y: Tensor, live: Live) -> LayerCost:
    return _cost(name, "relu", x, y, 0, _numbers(y), 0)


def _average_pool(name: str, module: nn.Module, x: Tensor, y: Tensor, live: Live) -> LayerCost:
    height, width = y.shape[2:] if y.dim() == 4 else (1, 1)
    window = (x.shape[2] // height) * (x.shape[3] // width)
    return _cost(name, "pool", x, y, 0, _numbers(y) * window, 0)


def _numbers(y: Tensor) -> int:
    """Numbers of an image in a tensor (N, …)."""
    return y.shape[1:].numel()


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _cost(
    name: str, operator: str, x: Tensor, y: Tensor, macs: int, flops_paper: int, params: int, groups: int = 1
) -> LayerCost:
    size = y.shape[2] if y.dim() == 4 else 1
    return LayerCost(name, operator, x.shape[1], y.shape[1], groups, size, macs, flops_paper, params)


Count = Callable[[str, Any, Tensor, Tensor, Live], LayerCost]

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
"""How each kind of layer is counted; what is not here costs nothing."""


FUNCTIONS: dict[str, Count] = {
    "relu": _relu,
    "relu6": _relu,
    "hardtanh": _relu,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _average_pool,
}
"""The same for what is called as a function; a mean over the pixels is an average pool too."""


def _handle(module: nn.Module) -> Count | None:
    return next((count for kind, count in HANDLES.items() if isinstance(module, kind)), None)
