"""The cost of a live model with its present masks: every operator that an image passes is counted."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from condense_core.grouping import Masked, masked_layers
from condense_core.looking import blank_image, evaluating, unwrapped
from condense_core.model import CondenseNet

from . import check_image_size
from .operators import NOT_COUNTED, cost_of
from .table import CostTable, LayerCost

Call = tuple[str, LayerCost]  # the name of the module that runs, and what it calls
MaskedLayers = dict[str, tuple[Masked, int]]  # by name, with the number of live weights
BARE = ("relu", "pool")  # the operators that have no parameters


def measure(model: nn.Module, image_size: int | None) -> CostTable:
    """Measure the cost of a model for an image of `image_size` pixels; a CondenseNet knows its own size.

    Shapes are enough where the model needs no numbers: nothing is computed then. Warns of products that are
    not counted. Raises ValueError if the model cannot read such an image.
    """
    model = unwrapped(model)
    size = _size_of_images(model, image_size)
    masked = {name: (layer, _live(layer)) for name, layer in masked_layers(model).items()}
    calls = _calls(model, size, masked)
    if left_out := Counter(cost.name for _, cost in calls if cost.operator == NOT_COUNTED):
        counts = ", ".join(f"{number} {name}" for name, number in sorted(left_out.items()))
        warnings.warn(f"cost_table does not count all of the model: {counts} left out", stacklevel=3)
    return CostTable(tuple(_rows(model, calls, masked)))


def _calls(model: nn.Module, size: int, masked: MaskedLayers) -> list[Call]:
    """Run the model, without numbers if it can do so."""
    try:
        return _run(_without_numbers(model), size, masked)
    except Exception:  # it asks for the value of a tensor, or it cannot read the image
        pass
    try:
        return _run(model, size, masked)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n", 1)[0]
        image = f"a black image (1, 3, {size}, {size})"
        text = f"image_size {size}: a {type(model).__name__} cannot read {image}: {reason}"
        raise ValueError(text) from error


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


def _live(layer: Masked) -> int:
    """Return how many weights of a masked layer survive."""
    return int(layer.mask.sum()) * layer.weight.numel() // layer.mask.numel()


def _without_numbers(model: nn.Module) -> nn.Module:
    """Copy a model onto the device 'meta', where tensors have shapes alone; the copy may keep what it likes."""
    memo: dict[int, Any] = {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    for own in model.parameters():
        memo[id(own)] = nn.Parameter(own.detach().to("meta"), requires_grad=False)
    with torch.device("meta"):
        return copy.deepcopy(model, memo)


def _run(model: nn.Module, size: int, masked: MaskedLayers) -> list[Call]:
    """Run an image through the model; return what each operator costs, with the module that it runs in."""
    image, counter = blank_image(model, size), _Counter(masked)
    with evaluating(model), torch.device(image.device), _attention_by_its_operators():
        for name, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                counter.watch(name, module)
        with counter:
            model(image)
    return counter.calls


@contextmanager
def _attention_by_its_operators() -> Iterator[None]:
    """Keep the attention of torch.nn from running as a single operator."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Counter(TorchDispatchMode):
    """Counts operators, each in the innermost module that is running."""

    def __init__(self, masked: MaskedLayers) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.masked, self.running = masked, [""]

    def watch(self, name: str, module: nn.Module) -> None:
        """Let a module say when it runs."""

        def enter(*_: Any) -> None:
            self.running.append(name)

        def leave(*_: Any) -> None:
            self.running.pop()

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave, always_call=True)

    def __torch_dispatch__(self, operator: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        output = operator(*arguments, **(named or {}))
        if cost := cost_of(operator, arguments, output):
            module = self.running[-1]
            self.calls.append((module, _of_live_weights(cost, self.masked.get(module))))
        return output


def _of_live_weights(cost: LayerCost, masked: tuple[Masked, int] | None) -> LayerCost:
    if masked is None or not cost.macs:
        return cost
    layer, live = masked
    macs = cost.macs // layer.weight.numel() * live
    return replace(cost, groups=layer.groups, macs=macs, flops_paper=cost.flops_paper - cost.macs + macs)


def _rows(model: nn.Module, calls: list[Call], masked: MaskedLayers) -> Iterator[LayerCost]:
    """Yield a row for each call; the first one in a module has the module's parameters."""
    params = _parameters(model, {module for module, cost in calls if cost.operator not in BARE}, masked)
    for module, cost in calls:
        own = 0 if cost.operator in BARE else params.pop(module, 0)
        yield replace(cost, name=_name(model, module, cost), params=own)
    if left := params.total():
        yield LayerCost("other parameters", "other", 0, 0, 1, 0, 0, 0, left)


def _parameters(model: nn.Module, modules: set[str], masked: MaskedLayers) -> Counter[str]:
    """Count each parameter once, in the innermost of `modules` around it."""
    counts: Counter[str] = Counter()
    for name, own in model.named_parameters():
        module, _, kind = name.rpartition(".")
        count = masked[module][1] if module in masked and kind == "weight" else own.numel()
        while module and module not in modules:
            module = module.rpartition(".")[0]
        counts[module] += count
    return counts


def _name(model: nn.Module, module: str, cost: LayerCost) -> str:
    """Name a layer by its module, and a function that a larger module calls by both."""
    if module and cost.operator != NOT_COUNTED and not model.get_submodule(module)._modules:
        return module
    return f"{module}.{cost.name}()".removeprefix(".")
