"""A checkpoint file as tensors by name: nothing in it is run, and errors are one line."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from condense_core.files import check_there

from .archive import read_archive
from .nesting import find_weights
from .pickle_guard import SAVE_WEIGHTS, Refused


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of an official file by name, and what is stored with them (epoch, optimizer)."""

    path: Path
    tensors: dict[str, Tensor]
    rest: dict[str, Any]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise self.error(name, "is missing")
        return self.tensors[name]

    def error(self, name: str, fault: str) -> ValueError:
        """What is wrong with a tensor of this file."""
        return ValueError(f"{self.path}: {name} {fault}")

    def has(self, name: str) -> bool:
        """Whether there is a tensor of that name."""
        return name in self.tensors


def read_checkpoint(path: str | Path) -> Checkpoint:
    """An official checkpoint as tensors by name; nothing in it is run.

    Raises FileNotFoundError, or ValueError for a file that is damaged, would run code or is something else.
    """
    path = Path(path)
    content = _read(path)
    try:
        weights = find_weights(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    named, checkpoint = weights.named, Checkpoint(path, weights.named, weights.rest)
    if sum(tensor.numel() * tensor.element_size() for tensor in named.values()) > path.stat().st_size:
        raise ValueError(f"{path}: its tensors are larger than the file: they show the same values many times")
    for name, tensor in named.items():
        _check(checkpoint, name, tensor)
    return checkpoint


DIMENSIONS = {".conv.weight": 4, "._mask": 4, ".index": 1, "classifier.weight": 2, ".linear.weight": 2}


def _check(checkpoint: Checkpoint, name: str, tensor: Tensor) -> None:
    """Raise ValueError for a tensor that no network of the official code could have."""
    kind = next((end for end in DIMENSIONS if name.endswith(end)), None)
    if (kind and tensor.dim() != DIMENSIONS[kind]) or tensor.numel() == 0:
        raise checkpoint.error(name, f"has shape {tuple(tensor.shape)}, which no layer has")
    if kind == ".index":
        if tensor.dtype != torch.int64:
            raise checkpoint.error(name, f"is {tensor.dtype}, not whole numbers (int64)")
    elif not name.endswith("num_batches_tracked"):
        if not tensor.is_floating_point():
            raise checkpoint.error(name, f"is {tensor.dtype}, not floating point")
        if not tensor.isfinite().all():
            raise checkpoint.error(name, "has values that are not finite")
        if name.endswith("running_var") and (tensor < 0).any():
            raise checkpoint.error(name, "has negative variances")


def _read(path: Path) -> Any:
    check_there(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of torch about its own reader
            return read_archive(path)
    except Refused as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # torch, pickle and zip each raise kinds of their own
        raise ValueError(
            f"{path}: cannot be read: it is truncated or no file of torch.save; {SAVE_WEIGHTS}"
        ) from error
