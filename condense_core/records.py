"""What the records of a run store hold, and whether those of a run fit one another."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .config import LEARNED, ModelConfig
from .cost import cost_table
from .untrusted import Between, check_inside, check_record, plain_name

if TYPE_CHECKING:
    import numpy as np

    from .runs import Run, RunStore

Source = TypeVar("Source")
Found = TypeVar("Found")

STATES = frozenset({"new", "running", "stopped", "done", "diverged", "failed"})
ROLES = frozenset({"base", "grid", "reference", "size"})

COUNT = Between(0, kind=int)
SOME = Between(1, kind=int)
PERCENT = Between(0, 100)
PERCENT_OR_NONE = Between(0, 100, or_none=True)
POSITIVE = Between(1e-9)
UNTIL_9999 = Between(0, 253_402_300_799)  # seconds; later years have no date

_cost: dict[str, Any] = {"macs": COUNT, "flops_paper": COUNT, "params": COUNT}

CONFIG: dict[str, Any] = {
    "config": dict,
    "data_fingerprint": str,
    "environment": dict,
    "code?": dict,
    "ranks?": SOME,
}
STATUS: dict[str, Any] = {"state": STATES, "reason?": (str, None), "time?": UNTIL_9999}
RESULT: dict[str, Any] = {
    **_cost,
    "training_macs": COUNT,
    "test_images": COUNT,
    "test_loss": (float, None),  # null where it was not finite
    "test_error_percent": PERCENT,
    "weights_sha256": str,
}
EPOCH: dict[str, Any] = {
    "epoch": SOME,
    "step": COUNT,
    "stage": COUNT,
    "learning_rate": Between(0),
    "curves_on": frozenset({"validation", "test"}),
    "macs": COUNT,
    **dict.fromkeys(("train_loss", "curve_loss"), (float, None)),
    **dict.fromkeys(("train_error_percent", "curve_error_percent"), PERCENT_OR_NONE),
}
TIMING: dict[str, Any] = {"epoch": SOME, "seconds": Between(0)}
NOTE: dict[str, Any] = {"time": float, "text": str, "bit_identical": bool}
EVALUATION: dict[str, Any] = {"loss": (float, None), "error_percent": PERCENT_OR_NONE}
STAGE: dict[str, Any] = {
    "stage": Between(0, kind=int, or_none=True),
    "epoch": Between(0),
    "step": COUNT,
    **_cost,
    "before": (dict, None),
    "after": (dict, None),
    "tensors": str,
    "sha256": str,
}
NUMBERS: dict[str, Any] = {
    **dict.fromkeys(("step", "epoch", "training_macs"), COUNT),
    "stage": Between(-1, kind=int),  # -1: none has begun
}
STUDY: dict[str, Any] = {
    "question": str,
    "path?": bool,
    "settings": dict,
    "variants": [
        {
            "label": str,
            "role": ROLES,
            "size": SOME,
            "residual": Between(-1),
            "curve?": (str, None),
            "runs": [str],
        }
    ],
}
BENCHMARK: dict[str, Any] = {
    "times": [
        {
            **dict.fromkeys(("model", "execution", "processor", "date"), str),
            **dict.fromkeys(("batch", "image_size", "macs", "computed_macs", "params", "threads"), SOME),
            **dict.fromkeys(("milliseconds", "low", "high", "gflops", "peak_gflops"), POSITIVE),
            "peak_memory": Between(0, or_none=True),
        }
    ],
    "parts": [
        {
            **dict.fromkeys(("model", "execution", "part", "date", "layer"), str),
            "batch": SOME,
            "milliseconds": Between(0),
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


def check_benchmark(record: Any, path: Path) -> dict[str, Any]:
    """Times that were measured. Raises ValueError, naming the file, where they are none."""
    check_record(record, BENCHMARK, str(path))
    for place, row in enumerate(record["times"]):
        if not row["low"] <= row["milliseconds"] <= row["high"]:
            raise ValueError(f"{path}: times[{place}]: low, milliseconds and high must rise")
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
    epochs, stages = run.epochs(), run.stages()
    run.seconds()
    names = [record["stage"] for record in stages]
    there = {"result.json": run.result, "metrics.jsonl": epochs, "stages/end.json": None in names}
    if done and not all(there.values()):
        name = next(name for name, found in there.items() if not found)
        raise ValueError(f"{run.folder / name}: is missing or empty, though the run is done")
    if len(set(names)) < len(names) or any(name is not None and name > config.last_stage for name in names):
        raise ValueError(f"{run.folder / 'stages'}: {names} must be 0 to {config.last_stage} and the end")
    for record in stages if done else ():
        check_masks(run.stage_arrays(record), config, run.folder / "stages" / record["tensors"])


def check_links(run: Run) -> None:
    """Raise ValueError where a link leads out of a run's folder: what is written there would be outside."""
    for folder, folders, names in os.walk(run.folder):
        for name in (*folders, *names):
            check_inside(Path(folder, name), run.folder)


def damage(store: RunStore, name: str, check: Callable[[Run], Any] = check_run) -> str | None:
    """What `check` finds wrong with a run of a store that was begun; None where nothing is."""
    try:
        run = store.named(name)
        if run.begun:
            check(run)
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
