"""Why a layer of a network does not learn groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from condense_core.looking import hooks_of

CONVOLUTIONS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
NEEDED = {"mask", "condense_factor", "permute", "has_lasso"}
"""Attributes that a masked layer has beside those of its plain class."""


@dataclass(frozen=True)
class Request:
    """What is asked of `learn_groups`; `chosen` are names, `holders` says how many modules hold a weight."""

    groups: int
    condense_factor: int
    linear: bool
    chosen: Collection[str] | None
    holders: Counter[int]


def is_layer(module: nn.Module) -> bool:
    """Return whether a module is a convolution or a linear layer, of whatever kind."""
    return isinstance(module, (*CONVOLUTIONS, nn.Linear))


def weight_holders(model: nn.Module) -> Counter[int]:
    """Count the modules of a network that hold a parameter, by the parameter's id."""
    return Counter(
        id(own) for module in model.modules() for own in module._parameters.values() if own is not None
    )


def kind_of(layer: nn.Module) -> str:
    """Return the class of a layer and its kernel, such as 'Conv2d 3×3'."""
    return " ".join([type(layer).__name__, *([_kernel(layer)] if isinstance(layer, CONVOLUTIONS) else [])])


def reason(name: str, layer: nn.Module, request: Request) -> str:
    """Return why a layer does not learn groups; '' if it does."""
    looks: tuple[Callable[[], Iterator[str]], ...] = (
        lambda: _of_class(layer),
        lambda: _of_choice(name, layer, request),
        lambda: _of_weight(layer, request.holders),
        lambda: _of_sizes(layer, request),
    )
    return next((text for look in looks for text in look()), "")


def _of_class(layer: nn.Module) -> Iterator[str]:
    if is_parametrized(layer):
        yield "is parametrized"
    elif type(layer) in CONVOLUTIONS and type(layer) is not nn.Conv2d:
        yield "only 2-d convolutions and linear layers learn groups"
    elif type(layer) not in (nn.Conv2d, nn.Linear):
        kind = type(layer)
        yield f"its class {kind.__module__}.{kind.__qualname__} may compute something else"
    if "forward" in vars(layer):
        yield "its forward was replaced"
    if any(hooks_of(layer)):
        yield "has hooks"
    if taken := NEEDED & (vars(layer).keys() | layer._buffers.keys()):
        yield f"has an attribute {min(taken)} of its own"


def _of_choice(name: str, layer: nn.Module, request: Request) -> Iterator[str]:
    if request.chosen is not None and name not in request.chosen:
        yield "not in select"
    if isinstance(layer, nn.Linear) and not request.linear:
        yield "linear layers need linear=True"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        is_depthwise = layer.groups == layer.in_channels
        yield "is depthwise" if is_depthwise else f"has {layer.groups} groups already"
    if isinstance(layer, nn.Conv2d) and request.chosen is None and layer.kernel_size != (1, 1):
        yield f"has a {_kernel(layer)} kernel: name it in select"


def _of_weight(layer: nn.Module, holders: Counter[int]) -> Iterator[str]:
    weight = layer._parameters.get("weight")
    if weight is None:
        yield "its weight is computed, as by weight norm"
    elif not weight.requires_grad:
        yield "its weight is frozen"
    elif holders[id(weight)] > 1:
        yield "shares its weight with another module"


def _of_sizes(layer: nn.Module, request: Request) -> Iterator[str]:
    assert isinstance(layer.weight, nn.Parameter)
    outputs, inputs = layer.weight.shape[:2]
    if outputs % request.groups:
        yield f"{request.groups} groups do not divide {outputs} outputs"
    if inputs < request.condense_factor:
        yield f"has fewer inputs than the condense factor {request.condense_factor}"


def _kernel(layer: nn.Module) -> str:
    return "×".join(map(str, layer.kernel_size))  # type: ignore[arg-type]
