"""What a run is: frozen dataclasses, validated where they are made, that name a run by their content."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal

from .validation import Checked, identity, nearest, setting

Grouping = Literal["learned", "random", "sequential", "unstructured", "none"]
Pruning = Literal["condensing", "one-shot", "gradual"]
Criterion = Literal["l1", "l2", "norm-scale", "random"]
Connectivity = Literal["full", "block"]
GrowthSchedule = Literal["exponential", "constant"]
Execution = Literal["reference", "fast"]
Precision = Literal["float32", "tf32", "bf16"]

GROUPINGS: tuple[Grouping, ...] = ("learned", "random", "sequential", "unstructured", "none")
LEARNED: tuple[Grouping, ...] = ("learned", "unstructured")  # start dense and are pruned
PRUNINGS: tuple[Pruning, ...] = ("condensing", "one-shot", "gradual")
CRITERIA: tuple[Criterion, ...] = ("l1", "l2", "norm-scale", "random")
CONNECTIVITIES: tuple[Connectivity, ...] = ("full", "block")
GROWTH_SCHEDULES: tuple[GrowthSchedule, ...] = ("exponential", "constant")
EXECUTIONS: tuple[Execution, ...] = ("reference", "fast")
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bf16")
WEIGHT_CRITERIA = ("l1", "random")  # l2 ranks single weights as l1 does, a batch norm ranks inputs only
DATASETS = ("digits", "cifar10", "cifar100", "fashion-mnist")
DATASETS_AT_A_PATH = ("folder", "imagenet")
MOST_LAYERS, MOST_CHANNELS, MOST_STAGES, MOST_PIXELS = (
    1000,
    16_384,
    1024,
    16_384,
)  # beyond what any machine trains
CLASSIFIER_CONDENSE_FACTOR = 2  # a pruned classifier keeps half of its inputs (paper Sec. 4.1)


@dataclass(frozen=True)
class ModelConfig(Checked):
    """A CondenseNet or one of its ablations (paper Sec. 3 and 4.3)."""

    stages: tuple[int, ...] = setting(at_least=1, at_most=MOST_LAYERS, help="dense layers of each block")
    growth: tuple[int, ...] = setting(at_least=1, at_most=MOST_CHANNELS, help="growth rate of each block")
    grouping: Grouping = setting("learned", one_of=GROUPINGS, help="which inputs a group of a 1x1 reads")
    connectivity: Connectivity = setting("full", one_of=CONNECTIVITIES, help="across blocks, or within one")
    groups: int = setting(4, at_least=1, at_most=MOST_CHANNELS, help="G, groups of a 1x1 convolution")
    condense_factor: int = setting(
        4, at_least=1, at_most=MOST_STAGES, help="C, each group keeps 1/C of its inputs"
    )
    groups_3x3: int = setting(4, at_least=1, at_most=MOST_CHANNELS, help="groups of a 3x3 convolution")
    bottleneck: int = setting(
        4, at_least=1, at_most=MOST_CHANNELS, help="outputs of a 1x1 as a multiple of the growth rate"
    )
    reduction: float = setting(0.5, at_least=0.01, at_most=1, help="width kept by a transition (block)")
    dropout: float = setting(0.0, at_least=0, below=1, help="dropout in front of a 1x1 convolution")
    permute: bool = setting(
        True, later=True, help="interleave the outputs of 1x1 groups, so that a 3x3 group reads all of them"
    )
    classifier_pruning: bool = setting(False, help="prune half of the classifier's inputs at half of training")
    num_classes: int = setting(10, at_least=2, at_most=1_000_000, help="classes")
    image_size: int = setting(
        32, at_least=1, at_most=MOST_PIXELS, help="height and width of an image in pixels"
    )
    stem_stride: int | None = setting(
        None, at_least=1, at_most=MOST_PIXELS, help="default: 1 up to 64 pixels, 2 above"
    )

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
        if sum(self.stages) > MOST_LAYERS:
            raise ValueError(f"stages {self.stages}: must be at most {MOST_LAYERS} layers together")
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

    @property
    def last_stage(self) -> int:
        """The stage of the optimisation phase, C−1; 0 where nothing is learned."""
        learned = self.condense_factor - 1 if self.grouping in LEARNED else 0
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
        """'exponential' where the growth doubles from block to block, 'constant', or the rates themselves."""
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

    epochs: int = setting(300, at_least=1, help="passes over the training images")
    batch_size: int = setting(64, at_least=2, help="images of a step")
    learning_rate: float = setting(0.1, at_least=0, help="initial learning rate, then down a cosine to 0")
    momentum: float = setting(0.9, at_least=0, below=1, help="Nesterov momentum")
    weight_decay: float = setting(1e-4, at_least=0, help="on all parameters")
    group_lasso: float = setting(0.0, at_least=0, help="weight of the group lasso (Eq. 2)")
    pruning: Pruning = setting(
        "condensing", one_of=PRUNINGS, later=True, help="stage by stage from the start, or of a trained network"
    )
    criterion: Criterion = setting(
        "l1", one_of=CRITERIA, later=True, help="what is pruned first: the least weights, batch norm scales …"
    )
    retraining_rate: float | None = setting(
        None, at_least=0, later=True, help="initial learning rate once pruned (default: as before)"
    )
    precision: Precision = setting(
        "float32",
        one_of=PRECISIONS,
        later=True,
        help="of products in training; less than float32 on a GPU only",
    )


@dataclass(frozen=True)
class DataConfig(Checked):
    """Which images, and how they are split; where they lie on this machine is not part of it."""

    name: str = setting("digits", help=f"{', '.join(DATASETS)}, folder:PATH or imagenet:PATH")
    validation_fraction: float = setting(
        0.1, at_least=0, below=1, help="share of the training images held out for curves and choices"
    )
    train_images: int | None = setting(None, at_least=2, help="a class-balanced subset of that many images")
    data_image_size: int | None = setting(
        None, at_least=1, at_most=MOST_PIXELS, help="resize and crop to it (folder, imagenet)"
    )

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


HOW_COMPUTED = ("threads", "device", "execution")  # settings of a run that do not name it


@dataclass(frozen=True)
class RunConfig(Checked):
    """One training of one variant with one seed. How it is computed (HOW_COMPUTED) does not name the run."""

    model: ModelConfig
    recipe: RecipeConfig = RecipeConfig()
    data: DataConfig = DataConfig()
    seed: int = setting(0, at_least=0, help="seed of everything that is drawn")
    threads: int = setting(1, at_least=1, help="CPU threads of a run")
    device: str = setting("cpu", one_of=("cpu", "cuda"), help="where it trains")
    execution: Execution = setting(
        "reference",
        one_of=EXECUTIONS,
        later=True,
        help="layer by layer, or by our own kernels: the same numbers to rounding",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.grouping == "unstructured" and self.recipe.criterion not in WEIGHT_CRITERIA:
            valid = " or ".join(WEIGHT_CRITERIA)
            raise ValueError(
                f"criterion {self.recipe.criterion!r}: single weights (grouping 'unstructured') need {valid}"
            )
        if self.recipe.precision != "float32" and self.device != "cuda":
            raise ValueError(f"precision {self.recipe.precision!r}: needs device 'cuda'; valid: float32")

    @cached_property
    def hash(self) -> str:
        """Ten hex digits of SHA-256 over model, recipe, data and seed: stable across machines."""
        named = {key: value for key, value in identity(self).items() if key not in HOW_COMPUTED}
        text = json.dumps(named, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """Name of the run's folder: variant, width, seed and hash."""
        return f"{self.model.label}-s{self.seed}-{self.hash}"
