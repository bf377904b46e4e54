"""Checkpoints of a run: files that carry their own checksum, so that a damaged one is passed over.

step-<step>.<checksum>.safetensors            the newest two, to go on from
step-<step>.stage-<s>.<checksum>.safetensors  the state at a stage's entry, before pruning, to fork from
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense_core.files import check_record, load_arrays, notes_of, parse_json, read_checked, write_atomically

from .schemas import Numbers

if TYPE_CHECKING:
    from torch import Tensor

NAME = re.compile(
    r"step-(?P<step>\d+)(\.stage-(?P<stage>\d+))?\.(?P<checksum>[0-9a-f]{16})\.safetensors", re.ASCII
)
NEWEST = 2
DIGITS = 16  # of a checksum in a name


@dataclass(frozen=True)
class Checkpoint:
    """A file of a checkpoint, as its name tells: step, stage where it is kept for good, and checksum."""

    path: Path
    step: int
    stage: int | None
    checksum: str

    def read(self) -> bytes:
        """Its bytes. Raises ValueError where they are not those that were written."""
        return read_checked(self.path, self.path.parents[1], self.checksum, DIGITS)


def checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints in a folder, newest first."""
    names = ((path, NAME.fullmatch(path.name)) for path in folder.glob("step-*.safetensors"))
    found = [
        Checkpoint(path, int(name["step"]), int(name["stage"]) if name["stage"] else None, name["checksum"])
        for path, name in names
        if name
    ]
    return sorted(found, key=lambda one: (one.step, -1 if one.stage is None else one.stage), reverse=True)


def save(folder: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], stage: int | None) -> None:
    """Write a checkpoint, then remove those that are no longer among the newest."""
    from safetensors.torch import save as to_bytes

    notes = {"numbers": json.dumps(dict(numbers), sort_keys=True)}
    content = to_bytes(dict(tensors), notes)
    checksum = hashlib.sha256(content).hexdigest()[:DIGITS]
    parts = [f"step-{numbers['step']:08}", *([] if stage is None else [f"stage-{stage}"]), checksum]
    write_atomically(folder / f"{'.'.join(parts)}.safetensors", lambda file: file.write(content))
    keep(folder, NEWEST)


def keep(folder: Path, newest: int) -> None:
    """Remove checkpoints that no stage begins with, but for the `newest`."""
    for old in [one for one in checkpoints(folder) if one.stage is None][newest:]:
        old.path.unlink(missing_ok=True)


def load(
    folder: Path, epochs: int, passed_over: Callable[[str], None]
) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]]]:
    """Tensors and numbers of the checkpoints that are whole, newest first; tells of those that are not.

    One that builds on more than the `epochs` whose rows there are is passed over as well.
    """
    for one in checkpoints(folder):
        try:
            content = one.read()
            tensors = load_arrays(content, one.path)
            notes = parse_json(notes_of(content).get("numbers", ""), str(one.path))
            numbers = check_record(notes, Numbers, f"{one.path}: numbers")
            if numbers["epoch"] > epochs:
                raise ValueError(
                    f"{one.path}: builds on {numbers['epoch']} epochs, of which {epochs} are there"
                )
        except (OSError, ValueError) as error:
            passed_over(str(error))
        else:
            yield tensors, numbers
