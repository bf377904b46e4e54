"""Checkpoints of a run: files that carry their own checksum, so that a damaged one is passed over.

step-<step>.<checksum>.safetensors            the newest two, to go on from
step-<step>.stage-<s>.<checksum>.safetensors  the state at a stage's entry, before pruning, to fork from
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

NEWEST = 2


@dataclass(frozen=True)
class Checkpoint:
    """A file of a checkpoint, as its name tells: step, and stage where it is kept for good."""

    path: Path

    @property
    def step(self) -> int:
        """Iterations that were done."""
        return int(self._parts[0].removeprefix("step-"))

    @property
    def stage(self) -> int | None:
        """The stage that was about to begin; None for one that is only kept to go on from."""
        return int(self._parts[1].removeprefix("stage-")) if len(self._parts) == 4 else None

    @property
    def _parts(self) -> list[str]:
        return self.path.name.split(".")

    def read(self) -> bytes:
        """Its bytes. Raises ValueError where they are not those that were written."""
        content = self.path.read_bytes()
        if _checksum(content) != self._parts[-2]:
            raise ValueError(f"{self.path}: does not match its checksum")
        return content


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints in a folder, newest first."""
    found = map(Checkpoint, folder.glob("step-*.*.safetensors"))
    return sorted(found, key=lambda one: (one.step, -1 if one.stage is None else one.stage), reverse=True)


def save(folder: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], stage: int | None) -> None:
    """Write a checkpoint, then remove those that are no longer among the newest."""
    from safetensors.torch import save as to_bytes

    notes = {"numbers": json.dumps(dict(numbers), sort_keys=True)}
    content = to_bytes(dict(tensors), notes)
    parts = [f"step-{numbers['step']:08}", *([] if stage is None else [f"stage-{stage}"]), _checksum(content)]
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
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    for one in checkpoints(folder):
        try:
            content = one.read()
            length = int.from_bytes(content[:8], "little")
            notes = json.loads(content[8 : 8 + length])["__metadata__"]
            tensors, numbers = from_bytes(content), dict(json.loads(notes["numbers"]))
            if numbers["epoch"] > epochs:
                raise ValueError(
                    f"{one.path}: builds on {numbers['epoch']} epochs, of which {epochs} are there"
                )
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            passed_over(str(error) if str(one.path) in str(error) else f"{one.path}: is damaged ({error})")
        else:
            yield tensors, numbers
