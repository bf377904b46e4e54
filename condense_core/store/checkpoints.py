"""Checkpoints of a run: files that carry their own checksum, so that a damaged one is passed over.

step-<step>.<checksum>.safetensors            the newest two, to resume from
step-<step>.stage-<s>.<checksum>.safetensors  the state at a stage's entry, before pruning, to fork from
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense_core.files import (
    check_record,
    load_arrays,
    notes_of,
    parse_json,
    read_checked,
    tensor_bytes,
    write_atomically,
)

from .schemas import Numbers

if TYPE_CHECKING:
    from torch import Tensor

State = tuple[dict[str, "Tensor"], dict[str, Any]]  # a checkpoint's tensors, and its numbers: step, epoch, ...

NAME = re.compile(
    r"step-(?P<step>\d+)(\.stage-(?P<stage>\d+))?\.(?P<checksum>[0-9a-f]{16})\.safetensors", re.ASCII
)
NEWEST = 2
DIGITS = 16  # of the checksum in a name


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's file, by its name: step, checksum, and the stage that keeps it for good, if any."""

    path: Path
    step: int
    stage: int | None
    checksum: str

    def read(self) -> bytes:
        """Return the file's bytes. Raise ValueError if they are not those that were written."""
        return read_checked(self.path, self.path.parents[1], self.checksum, DIGITS)

    def load(self) -> State:
        """Return the state in the file. Raise ValueError, naming the file, if it is damaged."""
        content = self.read()
        tensors = load_arrays(content, self.path)
        numbers = parse_json(notes_of(content).get("numbers", ""), str(self.path))
        return tensors, check_record(numbers, Numbers, f"{self.path}: numbers")


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints in a folder, newest first."""
    names = ((path, NAME.fullmatch(path.name)) for path in folder.glob("step-*.safetensors"))
    found = [
        Checkpoint(path, int(name["step"]), int(name["stage"]) if name["stage"] else None, name["checksum"])
        for path, name in names
        if name
    ]
    return sorted(found, key=lambda one: (one.step, -1 if one.stage is None else one.stage), reverse=True)


def save(folder: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], stage: int | None) -> None:
    """Write a checkpoint, then remove those that are no longer among the newest."""
    content, sha256 = tensor_bytes(tensors, {"numbers": json.dumps(dict(numbers), sort_keys=True)})
    parts = [f"step-{numbers['step']:08}", *([] if stage is None else [f"stage-{stage}"]), sha256[:DIGITS]]
    write_atomically(folder / f"{'.'.join(parts)}.safetensors", lambda file: file.write(content))
    keep(folder, NEWEST)


def keep(folder: Path, newest: int) -> None:
    """Remove all checkpoints but those of stages and the `newest` others."""
    for old in [one for one in checkpoints(folder) if one.stage is None][newest:]:
        old.path.unlink(missing_ok=True)


def load_newest(folder: Path, epochs: int) -> tuple[State | None, list[str]]:
    """Return the newest undamaged checkpoint, if any, and the faults of the newer ones.

    A checkpoint that builds on more than the `epochs` whose rows are there is a fault as well.
    """
    faults = []
    for one in checkpoints(folder):
        try:
            state = one.load()
            if (needed := state[1]["epoch"]) > epochs:
                raise ValueError(f"{one.path}: builds on {needed} epochs, but only {epochs} are there")
        except (OSError, ValueError) as error:
            faults.append(str(error))
        else:
            return state, faults
    return None, faults
