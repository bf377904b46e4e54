"""What keeps programs from computing a network."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from condense_core.fast.conditions import has_hooks, is_known_norm, modules_of
from condense_core.fast.layout import NUMBERS
from condense_core.grouping import LearnedGroupLinear, MaskedConv
from condense_core.model import CondenseNet, DenseBlock, DenseLayer, Transition

LAYER = ("norm1", "relu1", "conv1", "norm2", "relu2", "conv2")
TRANSITIONS = ("pool",), ("norm", "relu", "conv", "pool")


def obstacle(model: CondenseNet) -> str | None:
    """Return what of a network programs cannot compute, or None."""
    return next(_obstacles(model), None)


def _obstacles(model: CondenseNet) -> Iterator[str]:
    parts, parameters = list(modules_of(model)), list(model.parameters())
    if model.config.dropout:
        yield "dropout"
    if has_hooks(model):
        yield "hooks"
    for kind in {(own.dtype, own.device.type) for own in parameters}:
        if kind[0] not in NUMBERS or kind[1] != "cpu" or kind[0] != parameters[0].dtype:
            yield f"{kind[0]} on the device {kind[1]}"
    if not all(own.requires_grad for own in parameters):
        yield "frozen parameters"
    norms = [part for part in parts if isinstance(part, nn.BatchNorm2d)]
    if not all(map(is_known_norm, norms)) or len({norm.eps for norm in norms}) > 1:
        yield "batch norms of other kinds"
    yield from _unknown_parts(model)


def _unknown_parts(model: CondenseNet) -> Iterator[str]:
    """Yield the names of modules that are not as the network is built without dropout."""
    for name, part in model.blocks.named_children():
        if type(part) is DenseBlock:
            for number, layer in part.named_children():
                if type(layer) is not DenseLayer or not _is_known(layer, (LAYER,)):
                    yield f"blocks.{name}.{number}"
        elif type(part) is not Transition or not _is_known(part, TRANSITIONS):
            yield f"blocks.{name}"
    kinds = {"stem": nn.Conv2d, "norm": nn.BatchNorm2d, "relu": nn.ReLU, "pool": nn.AdaptiveAvgPool2d}
    yield from (name for name, kind in kinds.items() if type(getattr(model, name)) is not kind)
    if type(model.classifier) not in (nn.Linear, LearnedGroupLinear):
        yield "classifier"


def _is_known(part: nn.Module, names: tuple[tuple[str, ...], ...]) -> bool:
    kinds = {"norm": nn.BatchNorm2d, "relu": nn.ReLU, "pool": nn.AvgPool2d}
    if tuple(part._modules) not in names:
        return False
    for name, own in part._modules.items():
        kind = kinds.get(name.rstrip("12"), nn.Conv2d)
        if type(own) is not kind and not _is_known_conv(own):
            return False
    return True


def _is_known_conv(own: nn.Module | None) -> bool:
    """Return whether a module is a masked 1×1 convolution without bias."""
    if not isinstance(own, MaskedConv) or type(own).forward is not MaskedConv.forward:
        return False
    return own.bias is None and own.weight.shape[2:].numel() == 1 and own.stride == (1, 1)
