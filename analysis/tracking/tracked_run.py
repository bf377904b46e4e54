"""A tracked run while its loop trains: what the loop says, and the stages that its condensation enters."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from condense_core import Condensation, CostTable, cost_table
from condense_core.condensation import importances
from condense_core.evaluation import answers, outcomes
from condense_core.files import check_record
from condense_core.looking import unchanged
from condense_core.store import RunWriter, TrackedConfig, schemas

SPLITS = ("validation", "test")
NOT_SAID = ("step", "stage", "macs", "curves_on")  # what the run knows itself
COSTS = ("macs", "flops_paper", "params")


class TrackedRun:
    """Writes a run for as long as `analysis.track` holds it. `config` is what is known of it."""

    def __init__(
        self,
        config: TrackedConfig,
        condensation: Condensation,
        writer: RunWriter,
        evaluate: Callable[[], float] | None,
    ):
        self.config, self.run = config, writer.run
        self._condensation, self._writer, self._evaluate = condensation, writer, evaluate
        self._costs = self._measured()
        self._outcomes: dict[str, Tensor] = {}
        self._tested: dict[str, Any] = {"test_images": 0, "test_loss": None, "test_error_percent": None}
        self._epoch, self._diverged, self._since = len(writer.run.epochs()), "", time.monotonic()

    def log(self, epoch: int, **numbers: float | Tensor) -> None:
        """Write an epoch's row: from 1 on, with numbers by name.

        `train_loss`, `train_error_percent`, `validation_loss` and `validation_error_percent` (or `test_…`) are
        drawn; the learning rate is read from the optimizer. Raise ValueError for a bad name or number.
        """
        self._writer.check()
        row = self._row(epoch, numbers)
        if (loss := row["train_loss"]) is not None and not math.isfinite(loss):
            self._diverged = f"the loss of epoch {epoch} is not finite"
        now = time.monotonic()
        self._writer.append_epoch(row, now - self._since)
        self._epoch, self._since = epoch, now

    def _row(self, epoch: int, numbers: Mapping[str, Any]) -> dict[str, Any]:
        if type(epoch) is not int or not self._epoch < epoch <= self.config.epochs:
            raise ValueError(f"epoch {epoch!r}: must be {self._epoch + 1} to {self.config.epochs}")
        row = {
            "epoch": epoch,
            "step": self._condensation.done,
            "stage": max(self._condensation.stage, 0),
            "learning_rate": float(self._condensation.optimizer.param_groups[0]["lr"]),
            "curves_on": _curves_on(numbers),
            "macs": self._costs.macs,
            **dict.fromkeys(("train_loss", "train_error_percent", "curve_loss", "curve_error_percent")),
            **{_column(name): _number(name, value) for name, value in numbers.items()},
        }
        plain = {name: None if _is_infinite(value) else value for name, value in row.items()}
        check_record(plain, schemas.Epoch, "log")
        return row

    def outcomes(self, split: str, logits: Tensor, labels: Tensor) -> None:
        """Take what the final weights say of every image of a split, in the order of the data.

        `logits` are (N, classes) and `labels` (N,), whole numbers. Those of 'test' give the run its test error.
        Raise ValueError if they do not fit.
        """
        if split not in SPLITS:
            raise ValueError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
        logits, labels = _checked(logits, labels)
        said = answers(logits, labels)
        self._outcomes |= outcomes(split, torch.arange(len(labels)), said)
        if split == "test":
            wrong = 100 * (said[:, 0] != said[:, 1]).double().mean().item()
            self._tested = {
                "test_images": len(labels),
                "test_loss": F.cross_entropy(logits.float(), labels).item(),
                "test_error_percent": wrong,
            }

    @contextmanager
    def entering(self, stage: int) -> Iterator[None]:
        """Write a stage: the importance is that before it is pruned, the masks are those after it."""
        importance = self._importance()
        before = self._evaluated() if stage else None
        yield
        self._costs = self._measured()
        self._write_stage(stage, before, importance)

    def finish(self) -> None:
        """Write the end of a training that was left: it is done only after its last step."""
        self._writer.check()
        done, steps = self._condensation.done, self.config.steps
        if self._diverged:
            self._writer.set_state("diverged", self._diverged)
        elif done < steps:
            reason = f"left after {done} of {steps} steps"
            self._writer.set_state("stopped", reason)
            warnings.warn(f"run {self.run.name}: {reason}; it is not done", stacklevel=4)
        else:
            self._write_stage(None, None, self._importance())
            costs = {name: getattr(self._costs, name) for name in COSTS}
            self._writer.finish(
                {**costs, "training_macs": None, **self._tested}, self._weights(), self._outcomes
            )

    def _write_stage(self, stage: int | None, before: Any, importance: Mapping[str, Tensor]) -> None:
        self._writer.check()
        done = self._condensation.done
        row = {
            "stage": stage,
            "epoch": done / self.config.steps * self.config.epochs,
            "step": done,
            **{name: getattr(self._costs, name) for name in COSTS},
            "before": before,
            "after": self._evaluated(),
            "layers": [asdict(layer) for layer in self._costs.layers],
        }
        masks = {name: layer.mask.detach().cpu() for name, layer in self._condensation.layers.items()}
        tensors = {f"mask.{name}": mask for name, mask in masks.items()}
        self._writer.write_stage(row, tensors | {f"importance.{name}": own for name, own in importance.items()})

    def _importance(self) -> dict[str, Tensor]:
        found = importances(self._condensation.model)
        return {name: found[name].float() for name in self._condensation.layers}

    def _measured(self) -> CostTable:
        return cost_table(self._condensation.model, image_size=self.config.image_size)

    def _evaluated(self) -> dict[str, float | None] | None:
        if self._evaluate is None:
            return None
        with unchanged(self._condensation.model):
            error = _number("evaluate()", self._evaluate())
        if not 0 <= error <= 100:
            raise ValueError(f"evaluate() {error}: must return an error in percent, 0 to 100")
        return {"loss": None, "error_percent": error}

    def _weights(self) -> dict[str, Tensor]:
        state = self._condensation.model.state_dict()
        return {name: own.detach().clone() for name, own in state.items() if isinstance(own, Tensor)}


def _curves_on(numbers: Mapping[str, Any]) -> str:
    found = [split for split in SPLITS if any(name.startswith(f"{split}_") for name in numbers)]
    if len(found) > 1:
        raise ValueError("log: has validation_… and test_… numbers; curves are drawn of one of them")
    return found[0] if found else SPLITS[0]


def _column(name: str) -> str:
    """Return the name that a number has in the store, where curves are of either split."""
    if name in NOT_SAID or name.startswith("curve_"):
        raise ValueError(f"log {name}: is not for you to say; curves are validation_… or test_…")
    for split in SPLITS:
        name = name.replace(f"{split}_", "curve_") if name.startswith(f"{split}_") else name
    return name


def _number(name: str, value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or (not isinstance(value, int | float) and not hasattr(value, "__float__")):
        raise ValueError(f"{name} {value!r}: must be a number")
    return float(value)


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _checked(logits: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Return logits and labels on the CPU. Raise ValueError unless they are (N, classes) and (N,)."""
    logits, labels = (torch.as_tensor(own).detach().cpu() for own in (logits, labels))
    if logits.dim() != 2 or not len(logits) or not logits.is_floating_point():
        raise ValueError(f"logits {tuple(logits.shape)} {logits.dtype}: must be numbers (N, classes)")
    if labels.shape != logits.shape[:1] or labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"labels {tuple(labels.shape)} {labels.dtype}: must be {len(logits)} whole numbers")
    labels = labels.long()
    if not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        found = f"{int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"labels: are {found}; must be 0 to {logits.shape[1] - 1}, the classes of the logits")
    if not logits.isfinite().all():
        raise ValueError("logits: must be finite")
    return logits, labels
