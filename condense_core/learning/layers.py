"""Make layers of any network learn their groups, and make them plain layers again.

A layer stays the object that it is and keeps its tensors; it gets another class, and a mask. So whatever holds
the layer or its weight, such as an optimizer, need not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from condense_core.grouping import LearnedGroupConv, LearnedGroupLinear, live_weights, masked_layers
from condense_core.looking import is_wrapped
from condense_core.model import CondenseNet

from .obstacles import NEEDED, Request, is_layer, kind_of, reason, weight_holders
from .report import Layer, LearnedGroups

Select = str | Iterable[str] | Callable[[str, nn.Module], bool]
Layers = dict[str, nn.Module]


def learn_groups(
    model: nn.Module,
    groups: int = 4,
    condense_factor: int = 4,
    *,
    select: Select | None = None,
    linear: bool = False,
) -> LearnedGroups:
    """Let layers of `model` learn groups, in place; they keep weights, and compute what they did until pruned.

    By default these are all dense 1×1 convolutions. `select` chooses convolutions with any kernel instead: by
    patterns of names such as 'layer3.*', or by a function of name and module. `linear` takes linear layers too.
    The groups must divide a layer's outputs; at the end each group reads 1 of `condense_factor` inputs.

    Raise ValueError, with the model untouched, if no layer can learn groups, or if some do already.

    >>> network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1))
    >>> learn_groups(network)
    1 of 2 layers learn groups (4 groups, condense factor 4)
    0  Conv2d 3×3  3 → 16  has a 3×3 kernel: name it in select
    2  Conv2d 1×1  16 → 8  learns groups
    """
    _check_numbers(groups, condense_factor)
    _check_model(model)
    layers = {name: own for name, own in model.named_modules() if is_layer(own)}
    request = Request(groups, condense_factor, linear, _chosen(layers, select), weight_holders(model))
    report = LearnedGroups(groups, condense_factor, tuple(_judged(layers, request)))
    if not report.replaced:
        raise ValueError(f"no layer of the {type(model).__name__} can learn groups: {_reasons(report)}")
    for layer in report.replaced:
        _learn(layers[layer.name], groups, condense_factor)
    return report


@torch.no_grad()
def dense(model: nn.Module) -> nn.Module:
    """Make every masked layer of `model` a plain one again, in place, with zeros where it was pruned.

    Raise ValueError if it has no masked layer.
    """
    _check_unwrapped(model)
    layers = masked_layers(model)
    if not layers:
        raise ValueError(f"the {type(model).__name__} has no layer with learned groups")
    for layer in layers.values():
        layer.weight.mul_(live_weights(layer))
        _forget(layer)
    return model


def _check_numbers(groups: int, condense_factor: int) -> None:
    for name, number, least in (("groups", groups, 1), ("condense_factor", condense_factor, 2)):
        if type(number) is not int or number < least:
            raise ValueError(f"{name} {number!r}: must be a whole number, at least {least}")


def _check_model(model: nn.Module) -> None:
    _check_unwrapped(model)
    if isinstance(model, CondenseNet):
        raise ValueError("a CondenseNet has the grouping of its ModelConfig: choose it there")
    if masked := masked_layers(model):
        first = next(iter(masked))
        text = f"{len(masked)} layers of the {type(model).__name__} have masks already, such as {first}"
        raise ValueError(f"{text}; dense(model) takes them away")


def _check_unwrapped(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model {type(model).__name__}: must be a torch.nn.Module")
    if is_wrapped(model):
        raise ValueError(f"the {type(model).__name__} is compiled or wrapped: change its layers before that")


def _chosen(layers: Layers, select: Select | None) -> set[str] | None:
    """Return the names of the layers that `select` chooses; None if it says nothing."""
    if select is None:
        return None
    if callable(select):
        return {name for name, own in layers.items() if select(name, own)}
    patterns = [select] if isinstance(select, str) else list(select)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"select {pattern!r}: must be a pattern of names, several, or a function")
        if not any(fnmatchcase(name, pattern) for name in layers):
            known = f"{len(layers)} layers" + (f", such as {next(iter(layers))}" if layers else "")
            raise ValueError(f"select {pattern!r}: matches none of the {known}")
    return {name for name in layers for pattern in patterns if fnmatchcase(name, pattern)}


def _judged(layers: Layers, request: Request) -> Iterator[Layer]:
    for name, own in layers.items():
        names = (
            ("in_features", "out_features") if isinstance(own, nn.Linear) else ("in_channels", "out_channels")
        )
        inputs, outputs = (getattr(own, size) for size in names)
        yield Layer(name, kind_of(own), inputs, outputs, reason(name, own, request))


def _reasons(report: LearnedGroups) -> str:
    reasons = dict.fromkeys(f"{layer.name} {layer.reason}" for layer in report.layers)
    return "; ".join(list(reasons)[:3]) or "it has no convolution and no linear layer"


def _learn(layer: Any, groups: int, condense_factor: int) -> None:
    weight = layer.weight
    layer.__class__ = LearnedGroupConv if isinstance(layer, nn.Conv2d) else LearnedGroupLinear
    mask = torch.ones(groups, weight.shape[1], dtype=torch.bool, device=weight.device)
    layer.give_mask(mask, condense_factor, permute=False)
    layer.has_lasso = True


def _forget(layer: Any) -> None:
    """Take away what a masked layer has beside its tensors."""
    plain = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
    for name in ("mask", "groups", *NEEDED):
        vars(layer).pop(name, None)
    del layer._buffers["mask"]
    layer.__class__ = plain
    if plain is nn.Conv2d:
        layer.groups = 1
