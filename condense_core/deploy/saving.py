"""Save and load condensed networks: weights, configuration and plan in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condense_core.config import ModelConfig
from condense_core.cost import check_fits
from condense_core.files import (
    check_record,
    check_there,
    load_arrays,
    notes_of,
    parse_json,
    read_tensors,
    write_tensors,
)
from condense_core.grouping import masked_layers
from condense_core.model import CondenseNet
from condense_core.validation import from_dict, to_dict

from .condensed import condense
from .plan import Plan

FORMAT = "condensed 1"


def save_condensed(model: CondenseNet, path: str | Path, plan: Plan | None = None) -> None:
    """Write a condensed network, and a plan for it. Raises TypeError if it is not a CondenseNet."""
    if not isinstance(model, CondenseNet):
        raise TypeError(f"{type(model).__name__}: only a CondenseNet is saved so; see export_file for others")
    notes = {"format": FORMAT, "model": json.dumps(to_dict(model.config))}
    if plan is not None:
        notes["plan"] = json.dumps(plan.to_dict())
    write_tensors(Path(path), model.state_dict(), notes)


def load_condensed(path: str | Path) -> tuple[CondenseNet, Plan | None]:
    """Return a network that `save_condensed` wrote, and its plan, by which it runs on its processor.

    Raises FileNotFoundError, or ValueError, naming the file, if it is not a condensed network.
    """
    path = Path(path)
    check_there(path)
    content = read_tensors(path)
    tensors, notes = load_arrays(content, path), notes_of(content)
    if notes.get("format") != FORMAT:
        raise ValueError(f"{path}: is not a condensed network of this project")
    try:
        config = from_dict(ModelConfig, check_record(parse_json(notes["model"], "model"), dict, "model"))
        check_fits(config, len(content), "file")
        _check_finite(tensors)
        model = _rebuild(config, tensors)
        plan = Plan.from_dict(parse_json(notes["plan"], "plan")) if "plan" in notes else None
        if plan is not None:
            plan.check_fits(model.blocks)
            if plan.matches_this_machine:
                model.blocks.adopt(plan, model.stem.weight.dtype)  # type: ignore[operator]
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    return model, plan


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{name} has values that are not finite")


def _rebuild(config: ModelConfig, tensors: dict[str, Any]) -> CondenseNet:
    """Rebuild a condensed network from its tensors; their indices say which inputs each group reads."""
    model = CondenseNet(config, seed=0)
    for name, layer in masked_layers(model).items():
        prefix = name if name == "classifier" else name.rpartition(".")[0]
        index = tensors.get(f"{prefix}.index.index")
        mask = torch.zeros_like(layer.mask)
        layer.mask.copy_(~mask if index is None else mask.scatter_(1, index.view(len(mask), -1), True))
    fold = not any(name.endswith("norm2.weight") for name in tensors)
    small = condense(model, fold).eval()
    small.load_state_dict(tensors)
    return small
