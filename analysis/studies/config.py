"""The settings of a study, their defaults, and the settings that a named study or a preset gives.

Annotations are not text here either (see `condense_core.config`).
"""

import dataclasses
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

from msgspec import Meta

from analysis.axes import AXES, LEVELS
from condense_core.config import (
    CONNECTIVITIES,
    GROWTH_SCHEDULES,
    Channels,
    Connectivity,
    DataConfig,
    Execution,
    GrowthSchedule,
    ModelConfig,
    Precision,
    RecipeConfig,
    RunConfig,
    Split,
)
from condense_core.files import Text, nearest
from condense_core.presets import CIFAR_RECIPE, PRESETS, preset_recipe
from condense_core.tables import GROUPINGS
from condense_core.validation import Checked, Config, Many, from_dict, hints_of, name_in, to_dict

from .fork_levels import parse_fork
from .named import KEPT_WITH_PRESETS, NAMED_STUDIES
from .tunable import Tune, check_tune

MAX_SEEDS = 10_000
PARTS = hints_of(DataConfig) | hints_of(ModelConfig) | hints_of(RecipeConfig) | hints_of(RunConfig)
PARTS["data"] = PARTS["name"]
PARTS["tune"] = Annotated[
    Tune | None,
    Meta(description="a setting of the recipe and the values of which each variant's is chosen; repeatable"),
]


def _annotated_as_parts(kind: type[Config]) -> type[Config]:
    """Give fields of a plain type the annotation of the configuration's part that has them, or many of it."""
    for name, own in get_type_hints(kind, include_extras=True).items():
        if name in PARTS and get_origin(own) is not Annotated:
            part: Any = PARTS[name]
            is_crossed = get_origin(own) is tuple and get_origin(get_args(part)[0]) is not tuple
            kind.__annotations__[name] = Many[part] if is_crossed else part
    return kind


@dataclass(frozen=True, kw_only=True)
@_annotated_as_parts
class StudyConfig(Checked):
    """Everything that a study asks for: the axes of its grid, the network, the recipe, the data.

    A field of a plain type is a setting of a part: it has that one's range and explanation. Only settings that
    were added later have a default here: a study stored before them is still read as what it was.
    """

    study: Annotated[str, name_in(NAMED_STUDIES, "the study to run, by name")]
    name: Annotated[Text, Meta(description="name in the run store and of the report")]
    preset: Annotated[str, name_in(PRESETS, "start from a published model and its recipe")] | None
    grouping: Many[Annotated[str, name_in(GROUPINGS, "groupings to cross")]]
    growth: Many[Annotated[GrowthSchedule, Meta(description="growth schedules to cross")]]
    connectivity: Many[Annotated[Connectivity, Meta(description="connectivities to cross")]]
    reference: Annotated[bool, Meta(description="add the dense reference (grouping none) at its higher cost")]
    dense_equal: Annotated[
        bool, Meta(description="add a smaller dense network that costs what the base does")
    ] = False
    growth_rate: Annotated[
        Channels, Meta(description="k0 of the base variant, the growth rate of its first block")
    ]
    sizes: Annotated[tuple[Channels, ...], Meta(description="further k0 at which the groupings are compared")]
    match: Annotated[
        Literal["cost", "width"],
        Meta(description="equal final cost (k0 of each variant is solved for) or equal k0"),
    ]
    stages: tuple[int, ...]
    groups: tuple[int, ...]
    condense_factor: tuple[int, ...]
    groups_3x3: int
    bottleneck: int
    reduction: float
    dropout: float
    permute: bool = True
    stem_stride: int | None = None
    classifier_pruning: bool
    data: str
    validation_fraction: float
    train_images: int | None
    data_image_size: int | None
    split: Split = "fixed"
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    group_lasso: tuple[float, ...]
    pruning: tuple[str, ...] = ("condensing",)
    criterion: tuple[str, ...] = ("l1",)
    retraining_rate: float | None = None
    precision: Precision = "float32"
    fork: Annotated[
        tuple[Text, ...],
        Meta(description="forks of the base: STAGE:CHANGE, like 2:criterion=random or 2:skip_pruning"),
    ] = ()
    budget: Annotated[
        Text | None,
        Meta(description="from:RUN adds the base with a condense factor by layer, from that run's sensitivity"),
    ] = None
    seeds: Annotated[int, Meta(ge=1, le=MAX_SEEDS, description="number of seeds: 0, 1, …")]
    tune: dict[str, tuple[Any, ...]] | None = None
    tune_seeds: Annotated[
        int, Meta(ge=1, le=MAX_SEEDS, description="seeds of each value that is tried, which no result has")
    ] = 2
    threads: int
    execution: Execution = "reference"
    importance_every: int = 1

    def __post_init__(self) -> None:
        if self.tune is not None:
            object.__setattr__(self, "tune", check_tune(self.tune) or None)
        super().__post_init__()
        if self.tune and not self.validation_fraction:
            raise ValueError("validation_fraction 0: tune needs validation images to choose on")
        if self.tune and "group_lasso" in self.tune and len(self.group_lasso) > 1:
            raise ValueError("tune group_lasso: is what the study varies; tune another setting")
        for axis in LEVELS:
            levels = getattr(self, axis)
            if len(set(levels)) < len(levels):
                raise ValueError(f"{axis} {levels!r}: names one twice")
        if self.study in ("same", "masks") and self.varied:
            axis = self.varied[0]
            raise ValueError(
                f"{axis} {getattr(self, axis)!r}: the study {self.study!r} is of one network; name one"
            )
        if self.study == "masks":
            self._check_masks()
        for level in self.fork:
            parse_fork(level)
        if self.budget is not None and not re.fullmatch("from:.+", self.budget):
            raise ValueError(f"budget {self.budget!r}: must be from:RUN, with the name of a run")
        for name in ("fork", "budget"):
            if self.study == "same" and (given := getattr(self, name)):
                raise ValueError(f"{name} {given!r}: the study 'same' is of one network; leave it out")

    def _check_masks(self) -> None:
        """Raise ValueError if no masks can be learned for other runs to take."""
        study, factor = "the study 'masks'", self.condense_factor[0]
        if self.seeds < 2:
            raise ValueError(f"seeds {self.seeds}: {study} needs 2 or more, or there is no stranger")
        if factor < 2:
            raise ValueError(f"condense_factor {factor}: {study} needs 2 or more, or nothing is learned")
        for axis, own in (("grouping", "learned"), ("pruning", "condensing")):
            if getattr(self, axis) != (own,):
                raise ValueError(f"{axis} {getattr(self, axis)!r}: {study} has its own; leave it out")
        if self.tune:
            raise ValueError(f"tune {', '.join(self.tune)}: {study} trains all variants with one recipe")

    @property
    def varied(self) -> tuple[str, ...]:
        """The axes with more than one level, the leading one first."""
        return tuple(axis for axis in AXES if len(getattr(self, axis)) > 1)

    @property
    def data_config(self) -> DataConfig:
        """The data set that its networks are trained on."""
        return part_of(DataConfig, vars(self) | {"name": self.data})


def part_of(kind: type[Config], settings: Mapping[str, Any]) -> Config:
    """Return the configuration of `kind` that some of a study's settings make."""
    names = [item.name for item in fields(cast(Any, kind)) if item.name in settings]
    return kind(**{name: settings[name] for name in names})


DEFAULTS: dict[str, Any] = {
    "study": "ablation",
    "preset": None,
    "grouping": ("learned", "random", "sequential"),
    "growth": GROWTH_SCHEDULES,
    "connectivity": CONNECTIVITIES,
    "reference": True,
    "dense_equal": True,
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
    "stem_stride": None,
    "classifier_pruning": False,
    "data": "digits",
    "validation_fraction": 0.1,
    "train_images": None,
    "data_image_size": None,
    "split": "seed",
    **to_dict(dataclasses.replace(CIFAR_RECIPE, epochs=15)),
    "group_lasso": (1e-5,),
    "pruning": ("condensing",),
    "criterion": ("l1",),
    "fork": (),
    "budget": None,
    "seeds": 10,
    "tune": None,
    "tune_seeds": 2,
    "threads": 1,
    "execution": "fast",
    "importance_every": 1,
}
"""The ablation on digits: 22 variants that 2 cores train in minutes, and small enough to differ."""


def study_config(**given: Any) -> StudyConfig:
    """Return a study's settings: those given, over the preset's, over the named study's, over the defaults.

    Raise ValueError for unknown and bad settings.
    """
    given = {key: value for key, value in given.items() if value is not None}
    study = given.get("study", DEFAULTS["study"])
    if not isinstance(study, str) or study not in NAMED_STUDIES:
        raise ValueError(f"study {study!r}: {nearest(str(study), NAMED_STUDIES)}")
    named = NAMED_STUDIES[study]
    preset = _preset_settings(given.get("preset"))
    is_dense = preset.get("grouping") == ("none",)
    kept = {k: v for k, v in named.fixed.items() if k in KEPT_WITH_PRESETS and not is_dense}
    settings = DEFAULTS | named.fixed | preset | kept | named.varied | given
    for axis in AXES:
        settings[axis] = _levels(axis, settings[axis])
    data = str(settings["data"])
    settings.setdefault("name", f"{study}-{data.partition(':')[0]}")
    return from_dict(StudyConfig, settings)


def _levels(axis: str, chosen: Any) -> Any:
    """Order levels as the paper does, so that the base is learned, exponential, full if it can be."""
    if isinstance(chosen, int | float):
        return (chosen,)
    if not isinstance(chosen, list | tuple) or axis not in LEVELS:
        return chosen  # anything but a list is refused when the configuration is made
    levels = [*LEVELS[axis]]
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
        settings |= {"grouping": ("none",), "reference": False, "dense_equal": False}
    return settings


def command(config: StudyConfig) -> str:
    """Return the command line that asks for this study again: the settings that differ from the defaults."""
    start = study_config(study=config.study, preset=config.preset, data=config.data)
    options: list[str] = []
    for name in ("study", "preset", *(item.name for item in fields(StudyConfig))):
        value, dashed = getattr(config, name), name.replace("_", "-")
        known = DEFAULTS[name] if name in ("study", "preset", "data") else getattr(start, name)
        if value == known or any(option.startswith(f"--{dashed} ") for option in options):
            continue
        if isinstance(value, dict):
            options += [f"--{dashed} {key}={','.join(map(str, values))}" for key, values in value.items()]
        elif isinstance(value, bool):
            options.append(f"--{dashed}" if value else f"--no-{dashed}")
        elif value is not None:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            options.append(f"--{dashed} {shlex.quote(text)}")
    return " ".join(["python -m analysis.ablate", *options])
