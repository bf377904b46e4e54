"""What can be asked of a study: its settings, their defaults, and the studies that have a name."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

from analysis.axes import AXES, LEVELS
from condense_core.config import (
    CONNECTIVITIES,
    GROUPINGS,
    GROWTH_SCHEDULES,
    MOST_CHANNELS,
    DataConfig,
    Execution,
    ModelConfig,
    Precision,
    RecipeConfig,
    RunConfig,
)
from condense_core.presets import CIFAR_RECIPE, PRESETS, preset_recipe
from condense_core.validation import Checked, Config, from_dict, nearest, setting, to_dict

from .named import HELD, NAMED_STUDIES


def _inherited(kind: type, name: str) -> Any:
    """A setting of another configuration, with its range and explanation.

    It has no default of its own, unless it came later: a study stored before it is still read as what it was.
    """
    found = next(item for item in fields(kind) if item.name == name)
    default: Any = {"default": found.default, "kw_only": True} if found.metadata["later"] else {}
    return field(metadata=found.metadata, **default)


@dataclass(frozen=True)
class StudyConfig(Checked):
    """Everything that a study asks for: the axes of its grid, the network, the recipe, the data."""

    study: str = setting(help="what is asked: a study by name")
    name: str = setting(help="name in the run store and of the report")
    preset: str | None = setting(one_of=tuple(PRESETS), help="start from a published model and its recipe")
    grouping: tuple[str, ...] = setting(one_of=GROUPINGS, help="groupings to cross")
    growth: tuple[str, ...] = setting(one_of=GROWTH_SCHEDULES, help="growth schedules to cross")
    connectivity: tuple[str, ...] = setting(one_of=CONNECTIVITIES, help="connectivities to cross")
    reference: bool = setting(help="add the dense reference (grouping none), at its own higher cost")
    growth_rate: int = setting(
        at_least=1, at_most=MOST_CHANNELS, help="k0, growth rate of the first block, of the base variant"
    )
    sizes: tuple[int, ...] = setting(
        at_least=1,
        at_most=MOST_CHANNELS,
        may_be_empty=True,
        help="further k0 at which the groupings are compared",
    )
    match: str = setting(
        one_of=("cost", "width"), help="equal final cost (k0 of each variant is solved for) or equal k0"
    )
    stages: tuple[int, ...] = _inherited(ModelConfig, "stages")
    groups: tuple[int, ...] = _inherited(ModelConfig, "groups")
    condense_factor: tuple[int, ...] = _inherited(ModelConfig, "condense_factor")
    groups_3x3: int = _inherited(ModelConfig, "groups_3x3")
    bottleneck: int = _inherited(ModelConfig, "bottleneck")
    reduction: float = _inherited(ModelConfig, "reduction")
    dropout: float = _inherited(ModelConfig, "dropout")
    permute: bool = _inherited(ModelConfig, "permute")
    classifier_pruning: bool = _inherited(ModelConfig, "classifier_pruning")
    data: str = _inherited(DataConfig, "name")
    validation_fraction: float = _inherited(DataConfig, "validation_fraction")
    train_images: int | None = _inherited(DataConfig, "train_images")
    data_image_size: int | None = _inherited(DataConfig, "data_image_size")
    epochs: int = _inherited(RecipeConfig, "epochs")
    batch_size: int = _inherited(RecipeConfig, "batch_size")
    learning_rate: float = _inherited(RecipeConfig, "learning_rate")
    momentum: float = _inherited(RecipeConfig, "momentum")
    weight_decay: float = _inherited(RecipeConfig, "weight_decay")
    group_lasso: tuple[float, ...] = _inherited(RecipeConfig, "group_lasso")
    pruning: tuple[str, ...] = _inherited(RecipeConfig, "pruning")
    criterion: tuple[str, ...] = _inherited(RecipeConfig, "criterion")
    retraining_rate: float | None = _inherited(RecipeConfig, "retraining_rate")
    precision: Precision = _inherited(RecipeConfig, "precision")
    seeds: int = setting(at_least=1, at_most=10_000, help="number of seeds: 0, 1, …")
    threads: int = _inherited(RunConfig, "threads")
    execution: Execution = _inherited(RunConfig, "execution")

    @property
    def varied(self) -> tuple[str, ...]:
        """The axes with more than one level, the leading one first."""
        return tuple(axis for axis in AXES if len(getattr(self, axis)) > 1)

    @property
    def data_config(self) -> DataConfig:
        """What they are trained on."""
        return part_of(DataConfig, vars(self) | {"name": self.data})


def part_of(kind: type[Config], settings: Mapping[str, Any]) -> Config:
    """The configuration of `kind` that some of a study's settings make."""
    names = [item.name for item in fields(cast(Any, kind)) if item.name in settings]
    return kind(**{name: settings[name] for name in names})


DEFAULTS: dict[str, Any] = {
    "study": "ablation",
    "preset": None,
    "grouping": ("learned", "random", "sequential"),
    "growth": GROWTH_SCHEDULES,
    "connectivity": CONNECTIVITIES,
    "reference": True,
    "growth_rate": 4,
    "sizes": (2, 8),
    "match": "cost",
    "stages": (4, 4, 4),
    "groups": (4,),
    "condense_factor": (4,),
    "groups_3x3": 2,
    "bottleneck": 4,
    "reduction": 0.5,
    "dropout": 0.0,
    "permute": True,
    "classifier_pruning": False,
    "data": "digits",
    "validation_fraction": 0.1,
    "train_images": None,
    "data_image_size": None,
    **to_dict(dataclasses.replace(CIFAR_RECIPE, epochs=15)),
    "group_lasso": (1e-5,),
    "pruning": ("condensing",),
    "criterion": ("l1",),
    "seeds": 3,
    "threads": 1,
    "execution": "fast",
}
"""The ablation on digits: 21 variants that 2 cores train in minutes, and small enough to differ."""


def study_config(**given: Any) -> StudyConfig:
    """Settings of a study: those given, over the preset's, over the named study's, over the defaults.

    Raises ValueError for unknown and bad settings.
    """
    given = {key: value for key, value in given.items() if value is not None}
    study = given.get("study", DEFAULTS["study"])
    if not isinstance(study, str) or study not in NAMED_STUDIES:
        raise ValueError(f"study {study!r}: {nearest(str(study), NAMED_STUDIES)}")
    named = NAMED_STUDIES[study]
    preset = _preset_settings(given.get("preset"))
    held = {} if preset.get("grouping") == ("none",) else {k: v for k, v in named.fixed.items() if k in HELD}
    settings = DEFAULTS | named.fixed | preset | held | named.varied | given
    for axis in AXES:
        settings[axis] = _levels(axis, settings[axis])
    data = str(settings["data"])
    settings.setdefault("name", f"{study}-{data.partition(':')[0]}")
    return from_dict(StudyConfig, settings)


def _levels(axis: str, chosen: Any) -> Any:
    """Levels as the paper orders them, so that the base is learned, exponential, full wherever it can be."""
    if isinstance(chosen, int | float):
        return (chosen,)
    if not isinstance(chosen, list | tuple) or axis not in LEVELS:
        return chosen  # what is no list is refused where the configuration is made
    levels = LEVELS[axis]
    return tuple(sorted(chosen, key=lambda level: levels.index(level) if level in levels else len(levels)))


def _preset_settings(preset: Any) -> dict[str, Any]:
    if preset is None:
        return {}
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(f"preset {preset!r}: {nearest(str(preset), PRESETS)}")
    model, recipe = PRESETS[preset], preset_recipe(preset)
    settings: dict[str, Any] = {
        **{item.name: getattr(recipe, item.name) for item in fields(RecipeConfig)},
        **{item.name: getattr(model, item.name) for item in fields(ModelConfig) if item.name in DEFAULTS},
        "growth_rate": model.growth[0],
        "sizes": (),
        "grouping": DEFAULTS["grouping"],
        "group_lasso": DEFAULTS["group_lasso"],
    }
    settings |= {"growth": (model.growth_schedule,), "connectivity": (model.connectivity,)}
    settings |= {name: (getattr(model, name),) for name in ("groups", "condense_factor")}
    settings |= {name: DEFAULTS[name] for name in ("pruning", "criterion")}
    if model.grouping == "none":  # one group has nothing to learn
        settings |= {"grouping": ("none",), "reference": False}
    return settings


def command(config: StudyConfig) -> str:
    """The command line that asks for this study again, with what differs from the defaults."""
    start = study_config(study=config.study, preset=config.preset, data=config.data)
    options: list[str] = []
    for name in ("study", "preset", *(item.name for item in fields(StudyConfig))):
        value, dashed = getattr(config, name), name.replace("_", "-")
        known = DEFAULTS[name] if name in ("study", "preset", "data") else getattr(start, name)
        if value == known or any(option.startswith(f"--{dashed} ") for option in options):
            continue
        if isinstance(value, bool):
            options.append(f"--{dashed}" if value else f"--no-{dashed}")
        elif value is not None:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            options.append(f"--{dashed} {shlex.quote(text)}")
    return " ".join(["python -m analysis.ablate", *options])
