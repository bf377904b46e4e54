"""Condense: CondenseNets and their ablations, trained, condensed and costed.

Names are imported when they are first used, so that a command line answers without loading torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import PRESETS, DataConfig, ModelConfig, RecipeConfig, RunConfig
    from .cost import CostTable, cost_table
    from .model import CondenseNet
    from .training import Trainer

__version__ = "0.1.0"

_HOMES = {
    "PRESETS": "config",
    "CondenseNet": "model",
    "CostTable": "cost",
    "DataConfig": "config",
    "ModelConfig": "config",
    "RecipeConfig": "config",
    "RunConfig": "config",
    "Trainer": "training",
    "cost_table": "cost",
}

__all__ = [*_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
