"""The published models by name (paper Tables 1 to 5, official README) and their training recipes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .config import ModelConfig, RecipeConfig
from .tables import Named


def _cifar(layers: int, growth: tuple[int, ...] = (8, 16, 32), **settings: Any) -> ModelConfig:
    return ModelConfig(stages=(layers,) * len(growth), growth=growth, **settings)


def _imagenet(groups: int) -> ModelConfig:
    return ModelConfig(
        stages=(4, 6, 8, 10, 8),
        growth=(8, 16, 32, 64, 128),
        groups=groups,
        condense_factor=groups,
        groups_3x3=groups,
        num_classes=1000,
        image_size=224,
    )


CIFAR_RECIPE = RecipeConfig()
IMAGENET_RECIPE = RecipeConfig(epochs=120, batch_size=256, group_lasso=1e-5)

PRESETS = Named(
    "preset",
    {
        "condensenet-50": _cifar(8),
        "condensenet-74": _cifar(12),
        "condensenet-86": _cifar(14),
        "condensenet-98": _cifar(16),
        "condensenet-110": _cifar(18),
        "condensenet-122": _cifar(20),
        "condensenet-182": _cifar(30, (12, 24, 48)),
        "condensenet-light-94": _cifar(15, (16, 16, 16), connectivity="block"),
        "condensenet-light-160": _cifar(26, (32, 32, 32), connectivity="block"),
        "densenet-bc-100": _cifar(
            16, (12, 12, 12), grouping="none", connectivity="block", groups=1, condense_factor=1, groups_3x3=1
        ),
        "condensenet-74-imagenet-g4": _imagenet(4),
        "condensenet-74-imagenet-g8": _imagenet(8),
    },
)

LONG_EPOCHS = {"condensenet-182": 600}


def preset_recipe(name: str) -> RecipeConfig:
    """The recipe that a published model was trained with."""
    if PRESETS[name].image_size > 64:
        return IMAGENET_RECIPE
    return replace(CIFAR_RECIPE, epochs=LONG_EPOCHS.get(name, CIFAR_RECIPE.epochs))
