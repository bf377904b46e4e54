"""Condensed networks as files: weights, configuration and plan in one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from .config import ModelConfig
from .deploy import condense
from .files import write_atomically
from .grouping import masked_layers
from .model import CondenseNet
from .plan import Plan
from .settings import from_dict, to_dict

FORMAT = "condensed 1"


def save_condensed(model: CondenseNet, path: str | Path, plan: Plan | None = None) -> None:
    """Write a condensed network, with the plan that it runs by."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    notes = {"format": FORMAT, "model": json.dumps(to_dict(model.config))}
    if plan is not None:
        notes["plan"] = json.dumps(plan.to_dict())
    content = save(tensors, notes)
    write_atomically(Path(path), lambda file: file.write(content))


def load_condensed(path: str | Path) -> tuple[CondenseNet, Plan | None]:
    """A network that `save_condensed` wrote, and its plan, by which it runs.

    Raises ValueError where the file is none of these, naming it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            notes = file.metadata() or {}
            if notes.get("format") != FORMAT:
                raise ValueError("is not a condensed network of this project")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = from_dict(ModelConfig, json.loads(notes["model"]))
        model = _rebuilt(config, tensors)
        plan = Plan.from_dict(json.loads(notes["plan"])) if "plan" in notes else None
        if plan is not None:
            plan.apply(model)
    except (SafetensorError, ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return model, plan


def _rebuilt(config: ModelConfig, tensors: dict[str, Any]) -> CondenseNet:
    """The condensed network of such tensors; which inputs its groups read stands in their indices."""
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
