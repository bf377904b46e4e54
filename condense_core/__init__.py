"""Condense: CondenseNets and their ablations, trained, condensed and costed.

Names are imported when they are first used, so that a command line answers without loading torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import DataConfig, ModelConfig, RecipeConfig, RunConfig
    from .cost import CostTable, cost_table
    from .deploy.condensed import condense
    from .deploy.plan import make_plan
    from .deploy.saving import load_condensed, save_condensed
    from .model import CondenseNet
    from .official import load_official
    from .presets import PRESETS
    from .training import Trainer

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "CondenseNet",
    "CostTable",
    "DataConfig",
    "ModelConfig",
    "RecipeConfig",
    "RunConfig",
    "Trainer",
    "condense",
    "cost_table",
    "load_condensed",
    "load_official",
    "make_plan",
    "save_condensed",
]

_HOMES = {
    "PRESETS": "presets",
    "CondenseNet": "model",
    "CostTable": "cost",
    "Trainer": "training",
    "condense": "deploy.condensed",
    "cost_table": "cost",
    "load_condensed": "deploy.saving",
    "load_official": "official",
    "make_plan": "deploy.plan",
    "save_condensed": "deploy.saving",
}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'config')}", __name__), name)
