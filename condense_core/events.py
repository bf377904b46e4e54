"""The records that the training loop yields: entries and records of stages, epochs, the result, snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .evaluation import Evaluation


@dataclass(frozen=True)
class StageEntry:
    """A stage is about to start; nothing is pruned yet, so the trainer's state here can be forked."""

    stage: int


@dataclass(frozen=True)
class StageRecord:
    """The network at a stage's entry after pruning (or at the end: stage None), on the curves' split.

    `importance` is Σ|W| (groups, in_channels) before the pruning, `masks` are the connections after it.
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
    """The last weights on the test images, which are used here for the first and only time."""

    test: Evaluation
    test_images: int
    macs: int
    flops_paper: int
    params: int
    training_macs: int
    outcomes: dict[str, Tensor] = field(compare=False, repr=False)
    """(N,) of each split: '<split>.image', '.predicted', '.label', '.probability'."""


class Diverged(Exception):
    """The loss is not finite; the message names the epoch."""


Record = StageEntry | StageRecord | EpochRecord | Result


@dataclass(frozen=True)
class Snapshot:
    """All that is needed to resume training: tensors by name, and plain numbers."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]

    @torch.no_grad()
    def copy_into(self, state: Mapping[str, Tensor]) -> None:
        """Copy the tensors into those of `state`. Raises ValueError if they are of another configuration."""
        for name, own in state.items():
            expected, found = tuple(own.shape), None
            if name in self.tensors:
                found = tuple(self.tensors[name].shape)
            if found != expected:
                fault = "has none" if found is None else f"has shape {found}"
                raise ValueError(f"checkpoint: {name} must have shape {expected}, but it {fault}")
        for name, own in state.items():
            own.copy_(self.tensors[name])
