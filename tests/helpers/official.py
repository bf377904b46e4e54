"""The official code as an oracle, if it is next to the project; it is never copied into it."""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from helpers.paths import SHARED

OFFICIAL = SHARED / "peers" / "condensenet-official"
CHECKPOINTS = SHARED / "data" / "official"

needs_official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason="no official code next to the project")
needs_checkpoints = pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason="no official checkpoints next to it")


def official_module(name: str) -> ModuleType:
    """Import a module of the official code: layers, utils or models."""
    if str(OFFICIAL) not in sys.path:
        sys.path.append(str(OFFICIAL))
    return importlib.import_module(name)


def arguments(**settings) -> Namespace:
    """Return the official command line's arguments for a small network on 32-pixel images."""
    defaults = {
        "stages": [2, 1, 1],
        "growth": [8, 16, 8],
        "bottleneck": 4,
        "group_1x1": 4,
        "group_3x3": 4,
        "condense_factor": 4,
        "reduction": 0.5,
        "dropout_rate": 0,
        "data": "cifar10",
        "num_classes": 10,
    }
    return Namespace(**defaults | settings)


def official_model(name: str = "condensenet", stage: int | None = None, **settings) -> torch.nn.Module:
    """Build an official network with random statistics, pruned stage by stage to `stage` (None: the last)."""
    args = arguments(**settings)
    layers = official_module("layers")
    layers.LearnedGroupConv.global_progress = 0.0
    torch.manual_seed(0)
    model = getattr(official_module("models"), name)(args)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    last = args.condense_factor - 1
    size = 224 if args.num_classes == 1000 else 32
    image = torch.zeros(1, 3, size, size)
    for reached in range(1, (last if stage is None else stage) + 1):
        model.eval()(image, (reached + 1e-3) / (2 * last) if reached < last else 0.75)
    return model


def save(model: torch.nn.Module, path: Path, **rest) -> Path:
    """Save a checkpoint as the official main.py does."""
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "best_prec1": 0.0, **rest}, path)
    return path


def converted(model: torch.nn.Module) -> torch.nn.Module:
    """Convert a copy of `model` with the official code."""
    import copy

    model = copy.deepcopy(model)
    official_module("utils").convert_model(model, None)
    return model


def measured(model: torch.nn.Module, size: int = 32) -> tuple[int, int]:
    """Measure FLOPs and parameters with the official code."""
    flops, params = official_module("utils").measure_model(model.eval(), size, size)
    return int(flops), int(params)
