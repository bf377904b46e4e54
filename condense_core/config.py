"""The configuration of a run: frozen dataclasses that check themselves and name the run by their content.

Annotations hold the range and the explanation of each setting. They are not text (no `__future__` import):
reading text back would cost --help 30 ms.
"""

import hashlib
import json
import math
from dataclasses import dataclass, fields, is_dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta

from .files import MAX_WHOLE, NonNegative, NonNegativeInt, PositiveInt, Text, nearest
from .tables import CRITERIA, DATASETS, GIVEN, GROUPINGS, LEARNED, SINGLE_WEIGHTS, WEIGHT_CRITERIA
from .validation import Checked, Many, name_in

Pruning = Literal["condensing", "one-shot", "gradual", "at-start"]
Connectivity = Literal["full", "block"]
GrowthSchedule = Literal["exponential", "constant"]
Execution = Literal["reference", "fast"]
Precision = Literal["float32", "tf32", "bf16"]
Split = Literal["seed", "fixed"]

PRUNINGS: tuple[Pruning, ...] = get_args(Pruning)
CONNECTIVITIES: tuple[Connectivity, ...] = get_args(Connectivity)
GROWTH_SCHEDULES: tuple[GrowthSchedule, ...] = get_args(GrowthSchedule)
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)
AT_ONCE: tuple[Pruning, ...] = ("one-shot", "at-start")  # they enter the last stage alone
RETRAINING: tuple[Pruning, ...] = ("one-shot", "gradual")  # they prune a network that was trained
CLASSIFIER_CONDENSE_FACTOR = 2  # a pruned classifier keeps half of its inputs (paper Sec. 4.1)

MAX_LAYERS = 1000  # these limits are beyond what any machine trains
Factor = Annotated[int, Meta(ge=1, le=1024)]
Channels = Annotated[int, Meta(ge=1, le=16_384)]
Pixels = Annotated[int, Meta(ge=1, le=16_384)]
Several = Annotated[int, Meta(ge=2, le=MAX_WHOLE)]


@dataclass(frozen=True)
class ModelConfig(Checked):
    """A CondenseNet or one of its ablations (paper Sec. 3 and 4.3)."""

    stages: Many[Annotated[int, Meta(ge=1, le=MAX_LAYERS, description="dense layers of each block")]]
    growth: Many[Annotated[Channels, Meta(description="growth rate of each block")]]
    grouping: Annotated[str, name_in(GROUPINGS, "which inputs a group of a 1x1 reads")] = "learned"
    connectivity: Annotated[Connectivity, Meta(description="across blocks, or within one")] = "full"
    groups: Annotated[Channels, Meta(description="G, groups of a 1x1 convolution")] = 4
    condense_factor: Annotated[Factor, Meta(description="C, each group keeps 1/C of its inputs")] = 4
    groups_3x3: Annotated[Channels, Meta(description="groups of a 3x3 convolution")] = 4
    bottleneck: Annotated[Channels, Meta(description="outputs of a 1x1 as a multiple of the growth rate")] = 4
    reduction: Annotated[float, Meta(ge=0.01, le=1, description="width kept by a transition (block)")] = 0.5
    dropout: Annotated[float, Meta(ge=0, lt=1, description="dropout before a 1x1 convolution")] = 0.0
    permute: Annotated[
        bool, Meta(description="interleave the outputs of 1x1 groups, so that a 3x3 group reads all of them")
    ] = True
    classifier_pruning: Annotated[
        bool, Meta(description="prune half of the classifier's inputs at half of training")
    ] = False
    num_classes: Annotated[int, Meta(ge=2, le=1_000_000, description="classes")] = 10
    image_size: Annotated[Pixels, Meta(description="height and width of an image in pixels")] = 32
    stem_stride: Annotated[Pixels | None, Meta(description="default: 1 up to 64 pixels, 2 above")] = None
    condense_factors: Annotated[
        Many[Factor] | None, Meta(description="C of each 1x1 layer, first to last (default: one for all)")
    ] = None

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
        if sum(self.stages) > MAX_LAYERS:
            raise ValueError(f"stages {self.stages}: must be at most {MAX_LAYERS} layers together")
        self._check_factors(self.condense_factors)
        smallest = self.stride * (2 ** (len(self.stages) - 1) - 1) + 1
        if self.image_size < smallest:
            raise ValueError(
                f"image_size {self.image_size}: must be at least {smallest} pixels "
                f"for {len(self.stages)} blocks"
            )

    def transition_channels(self, in_channels: int) -> int:
        """Outputs of the 1×1 convolution of a transition (block connectivity): a multiple of the groups."""
        exact = in_channels * Fraction(str(self.reduction))  # a float product can be a hair too high
        reduced = math.ceil(exact)
        return math.ceil(reduced / self.groups) * self.groups

    def _check_factors(self, factors: tuple[int, ...] | None) -> None:
        if factors and self.grouping not in LEARNED:
            raise ValueError(
                f"condense_factors {factors}: grouping {self.grouping!r} is not learned; leave them out"
            )
        if factors and len(factors) != (number := len(replace(self, condense_factors=None).layer_factors)):
            raise ValueError(f"condense_factors {factors}: must be {number}, one for each 1x1 layer")

    @property
    def layer_factors(self) -> tuple[int, ...]:
        """The condense factor of each 1×1 layer, first to last."""
        number = sum(self.stages) + (len(self.stages) - 1 if self.connectivity == "block" else 0)
        return self.condense_factors or (self.condense_factor,) * number

    @property
    def last_stage(self) -> int:
        """The stage of the optimisation phase, C−1 of the largest condense factor; 0 if nothing is learned."""
        learned = max(self.layer_factors) - 1 if self.grouping in LEARNED else 0
        return max(learned, CLASSIFIER_CONDENSE_FACTOR - 1 if self.classifier_pruning else 0)

    def _check_divides(self, name: str, divisor: int, number: int, what: str) -> None:
        if number % divisor:
            raise ValueError(f"{name} {divisor}: must divide the output channels ({what} = {number})")

    @property
    def stride(self) -> int:
        """Stride of the stem: as configured, else 1 up to 64 pixels and 2 above."""
        return self.stem_stride or (1 if self.image_size <= 64 else 2)

    @property
    def growth_schedule(self) -> str:
        """'exponential' if the growth doubles from block to block, 'constant', or the rates themselves."""
        if self.growth == growth_rates("exponential", self.growth[0], len(self.growth)):
            return "exponential"
        return "constant" if len(set(self.growth)) == 1 else "x".join(map(str, self.growth))

    @property
    def variant(self) -> str:
        """The point of an ablation that this is: grouping, growth and connectivity."""
        return f"{self.grouping}-{self.growth_schedule}-{self.connectivity}"

    @property
    def label(self) -> str:
        """The variant and its k0, the growth rate of the first block."""
        return f"{self.variant}-k{self.growth[0]}"


def growth_rates(schedule: str, first: int, blocks: int) -> tuple[int, ...]:
    """Growth rate of each block: k0·2^m (exponential, paper Sec. 3.3) or k0 (constant)."""
    return tuple(first * 2**block if schedule == "exponential" else first for block in range(blocks))


@dataclass(frozen=True)
class RecipeConfig(Checked):
    """How a network is trained; the defaults are the paper's for CIFAR (Sec. 4)."""

    epochs: Annotated[PositiveInt, Meta(description="passes over the training images")] = 300
    batch_size: Annotated[Several, Meta(description="images per step")] = 64
    learning_rate: Annotated[
        NonNegative, Meta(description="initial learning rate, then down a cosine to 0")
    ] = 0.1
    momentum: Annotated[float, Meta(ge=0, lt=1, description="Nesterov momentum")] = 0.9
    weight_decay: Annotated[NonNegative, Meta(description="on all parameters")] = 1e-4
    group_lasso: Annotated[NonNegative, Meta(description="weight of the group lasso (Eq. 2)")] = 0.0
    pruning: Annotated[
        Pruning, Meta(description="stage by stage while training, of a trained network, or at the start")
    ] = "condensing"
    criterion: Annotated[str, name_in(CRITERIA, "scores that decide which connections are pruned first")] = "l1"
    retraining_rate: Annotated[
        NonNegative | None, Meta(description="initial learning rate once pruned (default: as before)")
    ] = None
    precision: Annotated[
        Precision, Meta(description="of products in training; less than float32 on a GPU only")
    ] = "float32"


def _data_names() -> list[str]:
    return [f"{name}:PATH" if source.at_path else name for name, source in DATASETS.items()]


@dataclass(frozen=True)
class DataConfig(Checked):
    """Which images, and how they are split. Their place on this machine is not part of it."""

    name: Annotated[Text, Meta(description=", ".join(_data_names()))] = "digits"
    validation_fraction: Annotated[
        float, Meta(ge=0, lt=1, description="share of the training images held out for curves and choices")
    ] = 0.1
    train_images: Annotated[Several | None, Meta(description="a class-balanced subset of that many images")] = (
        None
    )
    data_image_size: Annotated[
        Pixels | None, Meta(description="resize and crop images to this size (folder, imagenet)")
    ] = None
    split: Annotated[Split, Meta(description="splits drawn anew by each seed, or the same for all")] = "fixed"
    content: Annotated[Text | None, Meta(description="hash of the images of a folder, wherever it lies")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        kind, colon, path = self.name.partition(":")
        source = DATASETS.get(kind)
        if source is None or not (path if source.at_path else not colon):
            raise ValueError(f"data {self.name!r}: {nearest(self.name, _data_names())}")

    @property
    def kind(self) -> str:
        """The data set's name without its path."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class ForkConfig(Checked):
    """How a run leaves another one, its parent: from the state at a stage's entry, it decides otherwise."""

    parent: Annotated[Text, Meta(description="name of the run that it leaves")]
    stage: Annotated[PositiveInt, Meta(description="at whose entry it leaves, before anything is pruned")]
    changed: Annotated[tuple[Text, ...], Meta(description="the settings that differ from the parent's")] = ()
    mask_from: Annotated[Text | None, Meta(description="a run whose masks it has from then on")] = None
    skip_pruning: Annotated[bool, Meta(description="prune nothing at that stage")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_from and self.skip_pruning:
            raise ValueError(f"skip_pruning: does not go with mask_from {self.mask_from!r}; choose one")


HOW_COMPUTED = ("threads", "device", "execution")  # settings of a run that are not in its name
NOT_NAMED = (*HOW_COMPUTED, "importance_every")  # the last changes no result, only what is recorded
ADDED_LATER = (  # in its name if they are not at their default
    *("permute", "pruning", "criterion", "retraining_rate", "precision"),
    *("split", "content", "fork", "masks", "initial_seed", "condense_factors"),
)


@dataclass(frozen=True)
class MasksConfig(Checked):
    """Which run's final masks a run takes for its own, from the first step."""

    run: Annotated[Text, Meta(description="name of the run, which must be done")]
    shuffled: Annotated[bool, Meta(description="draw anew which channels of a source layer are read")] = False


@dataclass(frozen=True)
class RunConfig(Checked):
    """One training of one variant with one seed. How it is computed and recorded (NOT_NAMED) names nothing."""

    model: ModelConfig
    recipe: RecipeConfig = RecipeConfig()
    data: DataConfig = DataConfig()
    seed: Annotated[NonNegativeInt, Meta(description="seed of everything that is drawn")] = 0
    threads: Annotated[PositiveInt, Meta(description="CPU threads of a run")] = 1
    device: Annotated[str, name_in(("cpu", "cuda"), "where it trains")] = "cpu"
    execution: Annotated[
        Execution,
        Meta(description="layer by layer, or by our own kernels: the same numbers to rounding"),
    ] = "reference"
    fork: ForkConfig | None = None
    importance_every: Annotated[NonNegativeInt, Meta(description="epochs from record to record; 0: none")] = 1
    masks: MasksConfig | None = None
    initial_seed: Annotated[
        NonNegativeInt | None, Meta(description="seed of the initial weights (default: the run's)")
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        grouping, criterion = self.model.grouping, self.recipe.criterion
        if grouping in SINGLE_WEIGHTS and criterion not in WEIGHT_CRITERIA:
            valid = " or ".join(WEIGHT_CRITERIA)
            raise ValueError(f"criterion {criterion!r}: single weights (grouping {grouping!r}) need {valid}")
        if (grouping == GIVEN) != bool(self.masks):
            other = (
                "needs the masks of a run" if grouping == GIVEN else f"must be {GIVEN!r} with those of a run"
            )
            raise ValueError(f"grouping {grouping!r}: {other} (the study 'masks')")
        if self.recipe.precision != "float32" and self.device != "cuda":
            raise ValueError(f"precision {self.recipe.precision!r}: needs device 'cuda'; valid: float32")

    @cached_property
    def hash(self) -> str:
        """Ten hex digits of SHA-256 over model, recipe, data and seed: stable across machines."""
        text = json.dumps(_identity(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """Name of the run's folder: variant, width, seed and hash."""
        return f"{self.model.label}-s{self.seed}-{self.hash}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the runs that are trained before this one, which starts from what they found."""
        of_masks = self.masks and self.masks.run
        of_fork = (self.fork.parent, self.fork.mask_from) if self.fork else ()
        return tuple(name for name in (of_masks, *of_fork) if name)


def _identity(config: Any) -> dict[str, Any]:
    """The settings that name a run. Those added later at their default leave older names as they were."""
    values = {item: getattr(config, item.name) for item in fields(config) if item.name not in NOT_NAMED}
    found = {
        item.name: _identity(value) if is_dataclass(value) else value
        for item, value in values.items()
        if not (item.name in ADDED_LATER and value == item.default)
    }
    if isinstance(config, DataConfig) and config.content:  # then its path says no more; the model has the size
        found |= {"name": config.kind, "data_image_size": None}
    return found
