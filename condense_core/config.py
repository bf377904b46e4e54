"""What a run is: frozen dataclasses, validated where they are made, that name a run by their content."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar, cast, get_type_hints

Grouping = Literal["learned", "random", "sequential", "none"]
Connectivity = Literal["full", "block"]
GrowthSchedule = Literal["exponential", "constant"]

GROUPINGS: tuple[Grouping, ...] = ("learned", "random", "sequential", "none")
CONNECTIVITIES: tuple[Connectivity, ...] = ("full", "block")
GROWTH_SCHEDULES: tuple[GrowthSchedule, ...] = ("exponential", "constant")
DATASETS = ("digits", "cifar10", "cifar100", "fashion-mnist")
DATASETS_AT_A_PATH = ("folder", "imagenet")

Config = TypeVar("Config")


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint at what was meant by `name`: the closest valid name, or all of them."""
    valid = list(valid)
    close = difflib.get_close_matches(name, valid, n=1)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(valid)}"


def setting(
    default: Any = MISSING,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    one_of: tuple[str, ...] = (),
    may_be_empty: bool = False,
    help: str = "",
) -> Any:
    """A dataclass field that carries its valid range and its one-line explanation."""
    rules = {"at_least": at_least, "at_most": at_most, "below": below, "one_of": one_of}
    return field(default=default, metadata={**rules, "may_be_empty": may_be_empty, "help": help})


def _valid_range(rules: Mapping[str, Any], kind: str) -> str:
    bounds = [
        words.format(rules[rule])
        for rule, words in (("at_least", "at least {}"), ("at_most", "at most {}"), ("below", "below {}"))
        if rules[rule] is not None
    ]
    return " ".join([kind, " and ".join(bounds)]).strip()


def _check_number(name: str, value: Any, kind: type, rules: Mapping[str, Any]) -> None:
    expected = _valid_range(rules, "a whole number" if kind is int else "a number")
    numeric = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if (
        not numeric
        or not math.isfinite(value)
        or (rules["at_least"] is not None and value < rules["at_least"])
        or (rules["at_most"] is not None and value > rules["at_most"])
        or (rules["below"] is not None and value >= rules["below"])
    ):
        raise ValueError(f"{name} {value!r}: must be {expected}")


def check_setting(name: str, value: Any, hint: Any, rules: Mapping[str, Any]) -> None:
    """Raise ValueError unless `value` is of the annotated type `hint` and within `rules` (see `setting`)."""
    text = str(hint)
    if value is None and "None" in text:
        return
    if text.startswith("tuple["):
        if not isinstance(value, tuple) or (not value and not rules["may_be_empty"]):
            raise ValueError(f"{name} {value!r}: must be a list of one or more")
        if len(set(value)) < len(value) and rules["one_of"]:
            raise ValueError(f"{name} {value!r}: names one twice")
        for item in value:
            check_setting(name, item, int if "int" in text else str, rules)
    elif rules["one_of"]:
        if value not in rules["one_of"]:
            raise ValueError(f"{name} {value!r}: {nearest(str(value), rules['one_of'])}")
    elif hint is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{name} {value!r}: must be true or false")
    elif "int" in text or "float" in text:
        _check_number(name, value, float if "float" in text else int, rules)
    elif not isinstance(value, str) or not value:
        raise ValueError(f"{name} {value!r}: must be text")


class Checked:
    """Checks every field of a dataclass against its annotation and its `setting`."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for item in fields(cast(Any, self)):
            if item.metadata:
                check_setting(item.name, getattr(self, item.name), hints[item.name], item.metadata)


@dataclass(frozen=True)
class ModelConfig(Checked):
    """A CondenseNet or one of its ablations (paper Sec. 3 and 4.4)."""

    stages: tuple[int, ...] = setting(at_least=1, help="dense layers of each block")
    growth: tuple[int, ...] = setting(at_least=1, help="growth rate of each block")
    grouping: Grouping = setting("learned", one_of=GROUPINGS, help="which inputs a group of a 1x1 reads")
    connectivity: Connectivity = setting("full", one_of=CONNECTIVITIES, help="across blocks, or within one")
    groups: int = setting(4, at_least=1, help="G, groups of a 1x1 convolution")
    condense_factor: int = setting(4, at_least=1, help="C, each group keeps 1/C of its inputs")
    groups_3x3: int = setting(4, at_least=1, help="groups of a 3x3 convolution")
    bottleneck: int = setting(4, at_least=1, help="outputs of a 1x1 as a multiple of the growth rate")
    reduction: float = setting(0.5, at_least=0.01, at_most=1, help="width kept by a transition (block)")
    dropout: float = setting(0.0, at_least=0, below=1, help="dropout in front of a 1x1 convolution")
    classifier_pruning: bool = setting(False, help="prune half of the classifier's inputs at half of training")
    num_classes: int = setting(10, at_least=2, help="classes")
    image_size: int = setting(32, at_least=1, help="height and width of an image in pixels")
    stem_stride: int | None = setting(None, at_least=1, help="default: 1 up to 64 pixels, 2 above")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.stages) != len(self.growth):
            raise ValueError(f"growth {self.growth}: must have as many entries as stages {self.stages}")
        if self.grouping == "none" and (self.groups, self.condense_factor) != (1, 1):
            raise ValueError(
                f"groups {self.groups}, condense_factor {self.condense_factor}: grouping 'none' needs 1 and 1"
            )
        for rate in self.growth:
            self._check_divides("groups", self.groups, self.bottleneck * rate, "bottleneck * growth")
            self._check_divides("groups_3x3", self.groups_3x3, self.bottleneck * rate, "bottleneck * growth")
            self._check_divides("groups_3x3", self.groups_3x3, rate, "growth")
        smallest = self.stride * (2 ** (len(self.stages) - 1) - 1) + 1
        if self.image_size < smallest:
            raise ValueError(
                f"image_size {self.image_size}: must be at least {smallest} pixels "
                f"for {len(self.stages)} blocks"
            )

    def _check_divides(self, name: str, divisor: int, number: int, what: str) -> None:
        if number % divisor:
            raise ValueError(f"{name} {divisor}: must divide the output channels ({what} = {number})")

    @property
    def stride(self) -> int:
        """Stride of the stem: as configured, else 1 up to 64 pixels and 2 above."""
        return self.stem_stride or (1 if self.image_size <= 64 else 2)

    @property
    def growth_schedule(self) -> str:
        """'exponential' where the growth doubles from block to block, 'constant', or the rates themselves."""
        if self.growth == growth_rates("exponential", self.growth[0], len(self.growth)):
            return "exponential"
        return "constant" if len(set(self.growth)) == 1 else "x".join(map(str, self.growth))

    @property
    def variant(self) -> str:
        """The point of an ablation that this is: grouping, growth and connectivity."""
        return f"{self.grouping}-{self.growth_schedule}-{self.connectivity}"


def growth_rates(schedule: str, first: int, blocks: int) -> tuple[int, ...]:
    """Growth rate of each block: k0·2^m (exponential, paper Sec. 3.3) or k0 (constant)."""
    return tuple(first * 2**block if schedule == "exponential" else first for block in range(blocks))


@dataclass(frozen=True)
class RecipeConfig(Checked):
    """How a network is trained; the defaults are the paper's for CIFAR (Sec. 4)."""

    epochs: int = setting(300, at_least=1, help="passes over the training images")
    batch_size: int = setting(64, at_least=2, help="images of a step")
    learning_rate: float = setting(0.1, at_least=0, help="initial learning rate, then down a cosine to 0")
    momentum: float = setting(0.9, at_least=0, below=1, help="Nesterov momentum")
    weight_decay: float = setting(1e-4, at_least=0, help="on all parameters")
    group_lasso: float = setting(0.0, at_least=0, help="weight of the group lasso (Eq. 2)")


@dataclass(frozen=True)
class DataConfig(Checked):
    """Which images, and how they are split; where they lie on this machine is not part of it."""

    name: str = setting("digits", help=f"{', '.join(DATASETS)}, folder:PATH or imagenet:PATH")
    validation_fraction: float = setting(
        0.1, at_least=0, below=1, help="share of the training images held out for curves and choices"
    )
    train_images: int | None = setting(None, at_least=2, help="a class-balanced subset of that many images")
    data_image_size: int | None = setting(None, at_least=1, help="resize and crop to it (folder, imagenet)")

    def __post_init__(self) -> None:
        super().__post_init__()
        kind, _, path = self.name.partition(":")
        valid = [*DATASETS, *(f"{kind}:PATH" for kind in DATASETS_AT_A_PATH)]
        if self.name not in DATASETS and not (kind in DATASETS_AT_A_PATH and path):
            raise ValueError(f"data {self.name!r}: {nearest(self.name, valid)}")

    @property
    def kind(self) -> str:
        """The data set's name without its path."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class RunConfig(Checked):
    """One training of one variant with one seed. `threads` and `device` are kept, but do not name the run."""

    model: ModelConfig
    recipe: RecipeConfig = RecipeConfig()
    data: DataConfig = DataConfig()
    seed: int = setting(0, at_least=0, help="seed of everything that is drawn")
    threads: int = setting(1, at_least=1, help="CPU threads of a run")
    device: str = setting("cpu", one_of=("cpu", "cuda"), help="where it trains")

    @property
    def hash(self) -> str:
        """Ten hex digits of SHA-256 over model, recipe, data and seed: stable across machines."""
        identity = {key: value for key, value in to_dict(self).items() if key not in ("threads", "device")}
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """Name of the run's folder: variant, width, seed and hash."""
        return f"{self.model.variant}-k{self.model.growth[0]}-s{self.seed}-{self.hash}"


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values."""
    return cast(dict[str, Any], json.loads(json.dumps(asdict(config))))


def from_dict(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A configuration from plain values. Raises ValueError for unknown, missing and bad settings."""
    known = {item.name: item for item in fields(cast(Any, kind))}
    hints = get_type_hints(kind)
    for key in values:
        if key not in known:
            raise ValueError(f"unknown setting {key!r}: {nearest(key, known)}")
    for name, item in known.items():
        if name not in values and _is_required(item):
            raise ValueError(f"{name}: missing from {kind.__name__}")
    return kind(**{key: _convert(key, value, hints[key]) for key, value in values.items()})


def _is_required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _convert(key: str, value: Any, hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Checked):
        if not isinstance(value, Mapping):
            raise ValueError(f"{key} {value!r}: must be a table of settings")
        return from_dict(hint, value)
    return tuple(value) if isinstance(value, list) else value


def to_json(config: Any) -> str:
    """A configuration as JSON text."""
    return json.dumps(to_dict(config), indent=2)


def to_toml(config: Any) -> str:
    """A configuration as TOML text; TOML has no null, so what is None is left out."""
    import tomli_w

    def without_none(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_none(item) for key, item in value.items() if item is not None}
        return value

    return tomli_w.dumps(without_none(to_dict(config)))


def from_json(kind: type[Config], text: str) -> Config:
    """A configuration from JSON text. Raises ValueError where the text or a setting is bad."""
    return from_dict(kind, _table(json.loads(text)))


def from_toml(kind: type[Config], text: str) -> Config:
    """A configuration from TOML text. Raises ValueError where the text or a setting is bad."""
    return from_dict(kind, tomllib.loads(text))


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{type(value).__name__}: a configuration must be a table of settings")
    return value


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

PRESETS: dict[str, ModelConfig] = {
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
}
"""The published models (DESIGN: paper Tables 1–5, official README)."""
