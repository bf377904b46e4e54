"""What is known of a network and its condensation before a tracked run begins."""

from __future__ import annotations

from typing import Any

from torch import nn

from condense_core import Condensation
from condense_core.deploy import channel_sources
from condense_core.looking import blank_image
from condense_core.store import TrackedConfig, TrackedLayer


def describe(condensation: Condensation, image_size: int, variant: str | None, **said: Any) -> TrackedConfig:
    """Return the configuration of a run; `said` are the fields of `TrackedConfig` that the user gives.

    Raise ValueError, naming the field, for a bad one.
    """
    model = condensation.model
    sources, untraced = _sources(model, image_size)
    layers = tuple(_layer(name, layer, sources.get(name)) for name, layer in condensation.layers.items())
    if not layers:
        raise ValueError(f"no layer of the {type(model).__name__} learns groups, so there is nothing to track")
    return TrackedConfig(
        network=type(model).__name__,
        variant=variant or _variant(model, layers),
        image_size=image_size,
        steps=condensation.steps,
        group_lasso=condensation.group_lasso,
        pruning=condensation.pruning,
        criterion=condensation.criterion,
        layers=layers,
        untraced=untraced,
        **said,
    )


def _sources(model: nn.Module, image_size: int) -> tuple[dict[str, Any], str | None]:
    try:
        return dict(channel_sources(model, blank_image(model, image_size))), None
    except ValueError as error:
        return {}, " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())


def _layer(name: str, layer: Any, sources: Any) -> TrackedLayer:
    outputs, inputs = layer.weight.shape[:2]
    return {
        "name": name,
        "inputs": inputs,
        "outputs": outputs,
        "groups": layer.groups,
        "condense_factor": layer.condense_factor,
        "sources": [list(source) for source in sources or [("inputs", 0, inputs)]],  # type: ignore[misc]
    }


def _variant(model: nn.Module, layers: tuple[TrackedLayer, ...]) -> str:
    groups, factors = ({layer[size] for layer in layers} for size in ("groups", "condense_factor"))
    levels = (f"{name}={'/'.join(map(str, sorted(found)))}" for name, found in (("G", groups), ("C", factors)))
    return " ".join([type(model).__name__, *levels])
