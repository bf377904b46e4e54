"""What the records of a run store hold."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from condense_core.files import Between, check_record, plain_name

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
    for name in runs_of(record):
        plain_name(name, f"{path}: run")
    return record


def runs_of(study: Mapping[str, Any]) -> list[str]:
    """The names of a study's runs, each once, in the order of its record."""
    return list(dict.fromkeys(name for variant in study["variants"] for name in variant["runs"]))


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
