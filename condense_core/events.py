"""What the training loop yields: entries and records of stages, epochs, the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .evaluation import Evaluation


@dataclass(frozen=True)
class StageEntry:
    """A stage is about to begin; nothing is pruned yet, so the trainer's state here can be forked."""

    stage: int


@dataclass(frozen=True)
class StageRecord:
    """The network at a stage's entry after pruning (or at the end: stage None), on the curves' split.

    `importance` is Σ|W| (groups, in_channels) before the pruning, `masks` what survived it.
    """

    stage: int | None
    epoch: float
    step: int
    macs: int
    flops_paper: int
    params: int
    before: Evaluation | None
    after: Evaluation | None
    masks: dict[str, Tensor]
    importance: dict[str, Tensor]


@dataclass(frozen=True)
class EpochRecord:
    """Means over an epoch (loss without the lasso), and the curves' split after it."""

    epoch: int
    step: int
    stage: int
    learning_rate: float
    train_loss: float
    train_error_percent: float
    lasso: float
    curves: Evaluation
    curves_on: str
    macs: int


@dataclass(frozen=True)
class Result:
    """The last weights on the test images, used here for the first and only time."""

    test: Evaluation
    test_images: int
    macs: int
    flops_paper: int
    params: int
    training_macs: int


class Diverged(Exception):
    """The loss is not finite; says in which epoch."""


Record = StageEntry | StageRecord | EpochRecord | Result


@dataclass(frozen=True)
class Snapshot:
    """All that is needed to go on: tensors by name, and plain numbers."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]
