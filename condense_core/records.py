"""What the records of a run store hold, and whether those of a run fit one another."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .config import LEARNED, ModelConfig
from .cost import cost_table
from .untrusted import check_inside, check_record, plain_name

if TYPE_CHECKING:
    import numpy as np

    from .runs import Run, RunStore

Source = TypeVar("Source")
Found = TypeVar("Found")

STATES = frozenset({"new", "running", "stopped", "done", "diverged", "failed"})
ROLES = frozenset({"base", "grid", "reference", "size"})

_cost = {"macs": int, "flops_paper": int, "params": int}

CONFIG: dict[str, Any] = {"config": dict, "data_fingerprint": str, "environment": dict}
STATUS: dict[str, Any] = {"state": STATES, "reason?": (str, None), "time?": float}
RESULT: dict[str, Any] = {
    **_cost,
    "training_macs": int,
    "test_images": int,
    "test_loss": (float, None),  # null where it was not finite
    "test_error_percent": float,
    "weights_sha256": str,
}
EPOCH: dict[str, Any] = {
    "epoch": int,
    "step": int,
    "stage": int,
    "learning_rate": float,
    "curves_on": frozenset({"validation", "test"}),
    "macs": int,
    **dict.fromkeys(("train_loss", "train_error_percent", "curve_loss", "curve_error_percent"), (float, None)),
}
TIMING: dict[str, Any] = {"epoch": int, "seconds": float}
STAGE: dict[str, Any] = {
    "stage": (int, None),
    "epoch": float,
    "step": int,
    **_cost,
    "before": (dict, None),
    "after": (dict, None),
    "tensors": str,
    "sha256": str,
}
EVALUATION: dict[str, Any] = {"loss": (float, None), "error_percent": (float, None)}
CHECKPOINTS: list[Any] = [{"file": str, "sha256": str, "stage": (int, None), "numbers": dict}]
STUDY: dict[str, Any] = {
    "question": str,
    "path?": bool,
    "settings": dict,
    "variants": [
        {"label": str, "role": ROLES, "size": int, "residual": float, "curve?": (str, None), "runs": [str]}
    ],
}
BENCHMARK: dict[str, Any] = {
    "times": [
        {
            **dict.fromkeys(("model", "execution", "processor", "date"), str),
            **dict.fromkeys(("batch", "image_size", "macs", "computed_macs", "params", "threads"), int),
            **dict.fromkeys(("milliseconds", "low", "high", "gflops", "peak_gflops"), float),
            "peak_memory": (float, None),
        }
    ],
    "parts": [
        {
            **dict.fromkeys(("model", "execution", "part", "date"), str),
            "layer": (str, None),
            "batch": int,
            "milliseconds": float,
        }
    ],
}


class LeftOut(UserWarning):
    """Something of a store is damaged and left out, so that one bad file does not hide the rest."""


def sound(read: Callable[[Source], Found], source: Source) -> Iterator[Found]:
    """What `read` makes of a source; nothing, and a warning, where that is damaged."""
    try:
        yield read(source)
    except (ValueError, OSError) as error:
        warnings.warn(f"left out: {error}", LeftOut, stacklevel=2)


def check_study(record: Any, path: Path) -> dict[str, Any]:
    """A study's record. Raises ValueError, naming the file, where it is none."""
    check_record(record, STUDY, str(path))
    for variant in record["variants"]:
        for name in variant["runs"]:
            plain_name(name, f"{path}: run")
    return record


def check_stage(record: Any, path: Path) -> dict[str, Any]:
    """A stage's record. Raises ValueError, naming the file, where it is none."""
    check_record(record, STAGE, str(path))
    for moment in ("before", "after"):
        if record[moment] is not None:
            check_record(record[moment], EVALUATION, f"{path}: {moment}")
    plain_name(record["tensors"], f"{path}: tensors")
    return record


def check_run(run: Run) -> None:
    """Read all that reports read of a run. Raises ValueError or OSError, naming the file that is damaged."""
    check_links(run)
    config, done = run.config.model, run.status["state"] == "done"
    if not run.result and done:
        raise ValueError(f"{run.folder / 'result.json'}: is missing, though the run is done")
    run.epochs()
    run.seconds()
    for record in run.stages():
        if record["stage"] is not None and not 0 <= record["stage"] <= config.last_stage:
            raise ValueError(
                f"{run.folder / 'stages'}: stage {record['stage']}: must be 0 to {config.last_stage}"
            )
        if done:
            check_masks(run.stage_arrays(record), config, run.folder / "stages" / record["tensors"])


def check_links(run: Run) -> None:
    """Raise ValueError where a link leads out of a run's folder: what is written there would be outside."""
    for folder, folders, names in os.walk(run.folder):
        for name in (*folders, *names):
            check_inside(Path(folder, name), run.folder)


def damage(store: RunStore, name: str) -> str | None:
    """What is wrong with a run of a store that was begun; None where nothing is."""
    try:
        run = store.named(name)
        if run.begun:
            check_run(run)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def check_masks(arrays: dict[str, np.ndarray], model: ModelConfig, path: Path) -> None:
    """Raise ValueError unless masks and importances are those of a configuration's layers."""
    masks = {name.removeprefix("mask."): array for name, array in arrays.items() if name.startswith("mask.")}
    layers = {
        layer.name: (layer.groups, layer.in_channels)
        for layer in cost_table(model, 0).layers
        if layer.operator == "conv1x1"
    }
    if model.grouping in LEARNED and not layers.keys() <= masks.keys():
        raise ValueError(f"{path}: has no mask of {min(layers.keys() - masks.keys())}")
    for name, mask in masks.items():
        importance = arrays.get(f"importance.{name}")
        shape = layers.get(name, mask.shape)
        if mask.dtype != bool or mask.ndim != 2 or mask.shape != shape:
            raise ValueError(f"{path}: mask.{name} must be true or false, of shape {shape}")
        if importance is None or importance.dtype.kind != "f" or importance.shape != mask.shape:
            raise ValueError(f"{path}: importance.{name} must be numbers of shape {shape}")
