"""Studies: which variants of a network are trained, on equal terms, with which seeds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from condense_core.config import (
    CIFAR_RECIPE,
    CONNECTIVITIES,
    GROUPINGS,
    GROWTH_SCHEDULES,
    IMAGENET_RECIPE,
    PRESETS,
    Checked,
    Config,
    DataConfig,
    ModelConfig,
    RecipeConfig,
    RunConfig,
    from_dict,
    growth_rates,
    nearest,
    setting,
    to_dict,
)

if TYPE_CHECKING:
    import pandas as pd

    from condense_core.data import Description

MATCH_TOLERANCE = 0.05


def _inherited(kind: type, name: str) -> Any:
    """A setting of another configuration, with its range and explanation, and no default of its own."""
    found = next(item for item in fields(kind) if item.name == name)
    return field(metadata=found.metadata)


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
    growth_rate: int = setting(at_least=1, help="k0, growth rate of the first block, of the base variant")
    sizes: tuple[int, ...] = setting(
        at_least=1, may_be_empty=True, help="further k0 at which the groupings are compared"
    )
    match: str = setting(
        one_of=("cost", "width"), help="equal final cost (k0 of each variant is solved for) or equal k0"
    )
    stages: tuple[int, ...] = _inherited(ModelConfig, "stages")
    groups: int = _inherited(ModelConfig, "groups")
    condense_factor: int = _inherited(ModelConfig, "condense_factor")
    groups_3x3: int = _inherited(ModelConfig, "groups_3x3")
    bottleneck: int = _inherited(ModelConfig, "bottleneck")
    reduction: float = _inherited(ModelConfig, "reduction")
    dropout: float = _inherited(ModelConfig, "dropout")
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
    group_lasso: float = _inherited(RecipeConfig, "group_lasso")
    seeds: int = setting(at_least=1, help="number of seeds: 0, 1, …")
    threads: int = _inherited(RunConfig, "threads")

    @property
    def recipe(self) -> RecipeConfig:
        """How its networks are trained."""
        return _part(RecipeConfig, vars(self))

    @property
    def data_config(self) -> DataConfig:
        """What they are trained on."""
        return _part(DataConfig, vars(self) | {"name": self.data})


def _part(kind: type[Config], settings: Mapping[str, Any]) -> Config:
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
    "groups": 4,
    "condense_factor": 4,
    "groups_3x3": 2,
    "bottleneck": 4,
    "reduction": 0.5,
    "dropout": 0.0,
    "classifier_pruning": False,
    "data": "digits",
    "validation_fraction": 0.1,
    "train_images": None,
    "data_image_size": None,
    **to_dict(dataclasses.replace(CIFAR_RECIPE, epochs=30, group_lasso=1e-5)),
    "seeds": 3,
    "threads": 1,
}
"""The ablation on digits: 21 variants that 2 cores train in minutes, and small enough to differ."""

NAMED_STUDIES: dict[str, tuple[str, dict[str, Any]]] = {
    "ablation": ("What do learned groups, growth and connectivity each contribute at equal cost?", {}),
    "grouping": (
        "Do groups that are learned beat groups that are drawn or given?",
        {"growth": ("exponential",), "connectivity": ("full",)},
    ),
    "growth": (
        "Does exponential growth beat constant growth at equal cost?",
        {"grouping": ("learned",), "connectivity": ("full",), "reference": False, "sizes": ()},
    ),
    "connectivity": (
        "Does reading every block beat reading one's own at equal cost?",
        {"grouping": ("learned",), "growth": ("exponential",), "reference": False, "sizes": ()},
    ),
}
"""Studies by name: the question, and the settings in which they differ from the full ablation."""


def study_config(**given: Any) -> StudyConfig:
    """Settings of a study: those given, over the preset's, over the named study's, over the defaults.

    Raises ValueError for unknown and bad settings.
    """
    given = {key: value for key, value in given.items() if value is not None}
    study = given.get("study", DEFAULTS["study"])
    if study not in NAMED_STUDIES:
        raise ValueError(f"study {study!r}: {nearest(str(study), NAMED_STUDIES)}")
    settings = {**DEFAULTS, **NAMED_STUDIES[study][1], **_preset_settings(given.get("preset")), **given}
    data = str(settings["data"])
    settings.setdefault("name", f"{study}-{data.partition(':')[0]}")
    return from_dict(StudyConfig, settings)


def _preset_settings(preset: str | None) -> dict[str, Any]:
    if preset is None:
        return {}
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r}: {nearest(preset, PRESETS)}")
    model = PRESETS[preset]
    recipe = IMAGENET_RECIPE if model.image_size > 64 else CIFAR_RECIPE
    settings: dict[str, Any] = {
        **{item.name: getattr(recipe, item.name) for item in fields(RecipeConfig)},
        **{item.name: getattr(model, item.name) for item in fields(ModelConfig) if item.name in DEFAULTS},
        "growth_rate": model.growth[0],
        "sizes": (),
        "grouping": DEFAULTS["grouping"],
        "group_lasso": DEFAULTS["group_lasso"],
    }
    settings |= {"growth": (model.growth_schedule,), "connectivity": (model.connectivity,)}
    if model.grouping == "none":  # one group has nothing to learn
        settings |= {"grouping": ("none",), "reference": False}
    return settings


@dataclass(frozen=True)
class Variant:
    """A network of a study. `role`: base, grid, reference or size; `residual`: final MACs / target's − 1."""

    model: ModelConfig
    role: str
    size: int
    residual: float

    @property
    def label(self) -> str:
        """Grouping, growth, connectivity and k0."""
        return f"{self.model.variant}-k{self.model.growth[0]}"


def width_step(model: ModelConfig) -> int:
    """The smallest step of k0 with which all groups still divide their channels."""
    return math.lcm(model.groups_3x3, model.groups // math.gcd(model.groups, model.bottleneck))


def match_cost(model: ModelConfig, macs: int) -> ModelConfig:
    """`model` with the k0 whose final MACs come nearest to `macs`, in steps that all groups divide."""
    from condense_core.cost import cost_table

    step, schedule = width_step(model), model.growth_schedule
    costed = dataclasses.replace(model, grouping="learned")  # all groupings cost the same: measure one

    def rates(steps: int) -> tuple[int, ...]:
        return growth_rates(schedule, steps * step, len(model.stages))

    def excess(steps: int) -> int:
        return cost_table(dataclasses.replace(costed, growth=rates(steps))).macs - macs

    above = 1
    while excess(above) < 0:
        above *= 2
    below = above // 2  # cost grows with k0: halve the bracket
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if excess(middle) < 0 else (below, middle)
    steps = min((below, above), key=lambda steps: abs(excess(steps)) if steps else math.inf)
    return dataclasses.replace(model, growth=rates(steps))


@dataclass(frozen=True)
class Study:
    """Variants × seeds on one data set with one recipe."""

    config: StudyConfig
    data: Description
    device: str = "cpu"

    @classmethod
    def named(cls, study: str, device: str = "auto", **settings: Any) -> Study:
        """A study by name, with any setting of `StudyConfig` changed. Raises ValueError for a bad one."""
        return cls.of(study_config(study=study, **settings), device)

    @classmethod
    def of(cls, config: StudyConfig, device: str = "auto") -> Study:
        """The study of `config`; looks at the data, decodes nothing. Raises where either is bad."""
        import torch

        from condense_core.data import describe

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device 'cuda': there is none; valid: auto, cpu")
        study = cls(config, describe(config.data_config), device)
        study.check_match()
        return study

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """The grid, the dense reference and the groupings at further sizes; the base comes first."""
        return tuple(self._variants())

    def _variants(self) -> Iterator[Variant]:
        config = self.config
        first = (config.grouping[0], config.growth[0], config.connectivity[0])
        for cell in product(config.grouping, config.growth, config.connectivity):
            yield self._variant(*cell, config.growth_rate, "base" if cell == first else "grid")
        groupings = list(config.grouping)
        if config.reference and "none" not in groupings:
            yield self._variant("none", *first[1:], config.growth_rate, "reference")
            groupings.append("none")
        for size in config.sizes:
            for grouping in groupings:
                yield self._variant(grouping, *first[1:], size, "size")

    def _variant(self, grouping: str, growth: str, connectivity: str, size: int, role: str) -> Variant:
        from condense_core.cost import cost_table

        first = (self.config.growth[0], self.config.connectivity[0])
        model = self._model(grouping, growth, connectivity, size)
        target = cost_table(self._model(self.config.grouping[0], *first, size)).macs
        if self.config.match == "cost" and grouping != "none" and role == "grid":
            model = match_cost(model, target)
        return Variant(model, role, size, cost_table(model).macs / target - 1)

    def _model(self, grouping: str, growth: str, connectivity: str, size: int) -> ModelConfig:
        axes: dict[str, Any] = {"grouping": grouping, "connectivity": connectivity}
        if grouping == "none":
            axes |= {"groups": 1, "condense_factor": 1}
        data = {"num_classes": self.data.num_classes, "image_size": self.data.image_size}
        rates = growth_rates(growth, size, len(self.config.stages))
        return _part(ModelConfig, vars(self.config) | axes | data | {"growth": rates})

    def check_match(self) -> None:
        """Raise ValueError where a variant cannot be matched to the base's cost closely enough."""
        if self.config.match == "width":
            return
        for variant in self.variants:
            matched = variant.role == "grid" and variant.model.grouping != "none"
            if matched and abs(variant.residual) > MATCH_TOLERANCE:
                raise ValueError(
                    f"match 'cost': {variant.label} comes only within {100 * variant.residual:+.1f} % of the "
                    f"base's MACs (at most {100 * MATCH_TOLERANCE:.0f} %); choose another growth_rate or "
                    "match 'width'"
                )

    @property
    def base(self) -> Variant:
        """The variant that all are compared with."""
        return self.variants[0]

    def run_configs(self) -> list[tuple[Variant, RunConfig]]:
        """Every run of the study, seed by seed, so that an interrupted study has whole seeds."""
        return [
            (variant, self._run_config(variant, seed))
            for seed in range(self.config.seeds)
            for variant in self.variants
        ]

    def _run_config(self, variant: Variant, seed: int) -> RunConfig:
        config = self.config
        return RunConfig(
            variant.model, config.recipe, config.data_config, seed, threads=config.threads, device=self.device
        )

    def record(self) -> dict[str, Any]:
        """The study as the run store keeps it: its settings, and role and runs of each variant."""
        runs: dict[str, list[str]] = {}
        for variant, run in self.run_configs():
            runs.setdefault(variant.label, []).append(run.name)
        variants = [
            {
                "label": variant.label,
                "role": variant.role,
                "size": variant.size,
                "residual": variant.residual,
                "runs": runs[variant.label],
            }
            for variant in self.variants
        ]
        return {
            "name": self.config.name,
            "question": NAMED_STUDIES[self.config.study][0],
            "settings": to_dict(self.config),
            "variants": variants,
        }

    def run(
        self, runs: Path = Path("runs"), data_dir: Path = Path("data"), jobs: int | None = None
    ) -> pd.DataFrame:
        """Train what is not yet trained, and return the study's runs as a tidy frame (`frames.study_runs`)."""
        from condense_core.runs import RunStore

        from . import frames
        from .running import run_study

        store = RunStore(runs)
        run_study(self, store, data_dir, jobs)
        return frames.study_runs(store, self.config.name)
