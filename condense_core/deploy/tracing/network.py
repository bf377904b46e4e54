"""Condense any network: masked layers are replaced where they stand, and what follows from that is folded."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.fx import GraphModule

from condense_core.grouping import masked_layers
from condense_core.looking import same_process

from ..blocks import Index
from ..layers import check_shares, condense_layer
from ..outputs import Arguments, are_equal, arguments_of, check_reads
from .graph import Place, fork, trace
from .norms import fold
from .rewrite import rewrite


@dataclass(frozen=True)
class Condensed:
    """What was done to condense a network: the places of its masked layers by name, and what was folded."""

    places: Mapping[str, Place]
    indices: int = 0  # gathers that are left
    norms: int = 0  # folded
    dropped: int = 0  # channels
    reason: str | None = None  # why nothing, or not all, was folded

    def __str__(self) -> str:
        layers = f"{len(self.places)} masked layers condensed"
        folded = (
            f"{self.indices} indices are left, {self.norms} batch norms folded, "
            f"{self.dropped} channels dropped that nothing reads"
        )
        return "; ".join(part for part in (layers, folded, self.reason) if part)


def condense_module(model: nn.Module, example: Any, fold_norms: bool) -> nn.Module:
    """Return a condensed copy of any network with masked layers; its outputs on the example are equal.

    Its attribute `condensed` says what was done. Without folding it is the model with its masked layers
    replaced, in its mode and with its gradients. Raises ValueError or TypeError as `condense` does.
    """
    arguments = arguments_of(example)
    layers = masked_layers(model)
    if not layers and not any(isinstance(module, Index) for module in model.modules()):
        raise ValueError(f"{type(model).__name__}: has no masked layer; learn_groups(model) makes them")
    for name, layer in layers.items():
        check_shares(name, layer)
    reference = check_reads(model, arguments)
    with same_process():
        small = _replaced(model)
        check = _Check(model, arguments, reference)
        if fault := check.fault_of(small):
            raise ValueError(f"{type(model).__name__}: {fault} once masked layers are replaced; {CAUSES}")
        places = {name: Place(name, name) for name in layers}
        if not fold_norms:
            return _say(small, _unfolded(small, places, "nothing else is folded, as asked for"))
        small.eval().requires_grad_(False)
        return _folded(small, places, check)


CAUSES = "perhaps one is used otherwise than by calling it, or the network draws random numbers"


@dataclass(frozen=True)
class _Check:
    """Outputs of a model on an example, which every step must give again."""

    model: nn.Module
    arguments: Arguments
    reference: Any

    def fault_of(self, small: nn.Module) -> str | None:
        """Say why a network does not give them, or return None."""
        try:
            equal = are_equal(small, self.model, self.arguments, self.reference)
        except Exception as error:
            return _in_a_line(error)
        return None if equal else "the outputs change"


def _replaced(model: nn.Module) -> nn.Module:
    """Copy a model, with each masked layer condensed wherever it stands."""
    try:
        small = copy.deepcopy(model)
    except Exception as error:
        raise ValueError(f"{type(model).__name__}: cannot be copied: {error}") from error
    condensed = {layer: condense_layer(layer) for layer in masked_layers(small).values()}
    for module in list(small.modules()):
        for name, child in module._modules.items():
            if child in condensed:
                module._modules[name] = condensed[child]
    return condensed.get(small, small)  # type: ignore[call-overload]


def _folded(small: nn.Module, places: Mapping[str, Place], check: _Check) -> nn.Module:
    """Trace, rewrite and fold; keep what was reached when a step fails or changes the outputs."""
    try:
        traced = trace(small, check.arguments, check.reference)
        fault = check.fault_of(traced)
    except Exception as error:  # whatever the model raises when it is given no numbers
        fault = _in_a_line(error)
    if fault:
        return _say(small, _unfolded(small, places, f"not traced: {fault}"))
    return _rewritten(traced, _ends(small, places), check)


def _rewritten(traced: GraphModule, ends: Mapping[str, str], check: _Check) -> nn.Module:
    places: Mapping[str, Place] = {name: Place(name, end) for name, end in ends.items()}
    reasons, norms, dropped = [], 0, 0
    for step in (rewrite, fold):
        try:
            found = step(fork(traced), check.arguments, places)
            fault = check.fault_of(found.traced)
        except Exception as error:
            fault = _in_a_line(error)
        if fault:
            reasons.append(f"no {step.__name__}: {fault}")
            continue
        traced, places = found.traced, found.places
        norms, dropped = norms + found.norms, dropped + found.dropped
    return _say(traced, Condensed(places, _indices(traced), norms, dropped, "; ".join(reasons) or None))


def _unfolded(small: nn.Module, places: Mapping[str, Place], reason: str) -> Condensed:
    return Condensed(places, _indices(small), reason=reason)


def _indices(network: nn.Module) -> int:
    return sum(isinstance(module, Index) for module in network.modules())


def _in_a_line(error: Exception) -> str:
    """Return the first sentence of a message."""
    return " ".join(str(error).split()).split(". ")[0] or type(error).__name__


def _ends(small: nn.Module, places: Mapping[str, Place]) -> dict[str, str]:
    """Return the last module of each masked layer that was replaced."""
    ends = {}
    for name in places:
        parts = list(small.get_submodule(name)._modules)
        ends[name] = ".".join(filter(None, (name, *parts[-1:])))
    return ends


def _say(small: nn.Module, done: Condensed) -> nn.Module:
    small.condensed = done  # type: ignore[assignment]
    return small
