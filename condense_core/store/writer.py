"""Write a run: only the process that holds it does, with the writer that `Run.hold` gives it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense_core.config import HOW_COMPUTED, RunConfig
from condense_core.files import (
    UNFINISHED,
    append_row,
    flush,
    make_folder,
    move,
    write_atomically,
    write_json,
    write_tensors,
)
from condense_core.validation import to_dict

from . import checkpoints, forks, importance, provenance
from .checkpoints import State
from .locks import Hold
from .tracked import TrackedConfig

if TYPE_CHECKING:
    from torch import Tensor

    from .run import Run


@dataclass(frozen=True)
class RunWriter:
    """Writes one run, which this process holds."""

    run: Run
    hold: Hold

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.run.folder

    def check(self) -> None:
        """Raise RunHeld if another machine took the run over because this process was silent for too long."""
        self.hold.check()

    def start(
        self,
        config: RunConfig,
        data_fingerprint: str,
        ranks: int = 1,
        force: bool = False,
        masks_fingerprint: str | None = None,
    ) -> None:
        """Write the configuration of a new run, or check that a started one can be resumed.

        Raises Changed if code, torch, data or the masks that it takes changed; with `force` the run is
        restarted and the old one kept.
        """
        self._drop_unfinished()
        if self.run.started:
            changes = provenance.changes(self.run.record, data_fingerprint, masks_fingerprint)
            if not changes:
                self._note_other_computation(config, ranks)
                self.set_state("running")
                return
            if not force:
                raise forks.Changed(
                    f"run {self.run.name}: cannot resume: {'; '.join(changes)}. "
                    "Use --force to restart it; the old run is kept."
                )
            self._set_aside(changes)
        masks = {"masks_fingerprint": masks_fingerprint} if masks_fingerprint else {}
        self._write_config(config, data_fingerprint, {"ranks": ranks, **masks})
        self.set_state("running")

    def begin(self, config: TrackedConfig, step: int) -> None:
        """Begin a tracked run whose training has taken `step` steps: at 0 a new one, else the run goes on.

        A run that begins again is kept in superseded/. What was written after `step` is dropped.
        """
        self._drop_unfinished()
        if self.run.started and not step:
            self._set_aside(["its loop began again"])
        if self.run.started:
            self._resume(config, step)
        else:
            self._write_config(config, config.data, {"kind": "tracked"})
        self.set_state("running")

    def _resume(self, config: TrackedConfig, step: int) -> None:
        changes = provenance.changes(self.run.record, config.data)
        self.note("; ".join([f"resumed at step {step}", *changes]), bit_identical=not changes)
        self.drop_epochs_after(
            max((row["epoch"] for row in self.run.epochs() if row["step"] <= step), default=0)
        )
        for record in self.run.stages():
            if record["stage"] is None or record["step"] > step:
                self._stage_file(record["stage"]).unlink()

    def keep_sensitivity(self, record: Mapping[str, Any]) -> None:
        """Write what pruning each layer alone costs (`schemas.Sensitivity`)."""
        write_json(self.folder / "sensitivity.json", record)

    def _drop_unfinished(self) -> None:
        for path in self.folder.rglob(UNFINISHED):
            path.unlink()

    def _write_config(
        self, config: RunConfig | TrackedConfig, data_fingerprint: str, more: Mapping[str, Any]
    ) -> None:
        for name in ("stages", "checkpoints"):
            make_folder(self.folder / name)
        record = {
            "config": to_dict(config),
            "data_fingerprint": data_fingerprint,
            "environment": provenance.environment(),
            "code": provenance.code(),
            **more,
        }
        write_json(self.folder / "config.json", record)

    def _set_aside(self, changes: Sequence[str]) -> None:
        """Move the run to superseded/, so that it can be restarted."""
        name, aside = self.run.name, self.folder.parent / "superseded"
        make_folder(aside)
        number = next(n for n in range(1, 10**6) if not (aside / f"{name}.{n}").exists())
        move(self.folder, aside / f"{name}.{number}")
        make_folder(self.folder)
        self.note(f"restarted, the old run is {aside.name}/{name}.{number}: {'; '.join(changes)}")

    def _note_other_computation(self, config: RunConfig, ranks: int) -> None:
        """Note that a run resumes with other threads or ranks, on another device or another processor."""
        record, processor = self.run.record, provenance.environment()["processor"]
        then = record["config"] | {"ranks": record.get("ranks", 1)}
        then["processor"] = record["environment"].get("processor", processor)
        now = to_dict(config) | {"ranks": ranks, "processor": processor}
        names = [name for name in (*HOW_COMPUTED, "ranks", "processor") if then.get(name) != now[name]]
        if names:
            changes = ", ".join(f"{name} {now[name]} (started with {then.get(name)})" for name in names)
            self.note(f"resumed with {changes}: not bit-identical to an uninterrupted run", bit_identical=False)

    def note(self, text: str, bit_identical: bool = True) -> None:
        """Add a note on the run's course."""
        row = {"time": time.time(), "text": text, "bit_identical": bit_identical}
        append_row(self.folder / "notes.jsonl", row)

    def set_state(self, state: str, reason: str | None = None) -> None:
        """Record the run's state and the reason for it."""
        _write_state(self.folder, state, reason)

    def write_error(self, trace: str) -> None:
        """Keep the traceback of a run that failed, if there is room on the disk."""
        text = trace.encode(errors="backslashreplace")
        with suppress(OSError):
            make_folder(self.folder)
            write_atomically(self.folder / "error.txt", lambda file: file.write(text))

    def append_epoch(self, row: Mapping[str, Any], seconds: float) -> None:
        """Add an epoch's row, and in another file its seconds, because these differ between equal runs."""
        append_row(self.folder / "metrics.jsonl", finite(row))
        append_row(self.folder / "timing.jsonl", {"epoch": row["epoch"], "seconds": round(seconds, 4)})

    def append_importance(self, epoch: int, importances: Mapping[str, Tensor]) -> None:
        """Add the importance of every connection after an epoch: (groups, in_channels) by layer."""
        append_row(self.folder / importance.NAME, importance.packed(epoch, importances))

    def drop_epochs_after(self, epoch: int) -> None:
        """Drop the rows of epochs that will be trained again."""
        files = {"metrics.jsonl": self.run.epochs(), "timing.jsonl": self.run.timings()}
        if recorded := self.run.importance_rows():
            files[importance.NAME] = recorded
        for name, rows in files.items():
            lines = [json.dumps(row) + "\n" for row in rows if row["epoch"] <= epoch]
            text = "".join(lines).encode()
            write_atomically(self.folder / name, lambda file, text=text: file.write(text))  # type: ignore[misc]

    def write_stage(self, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Write the record of a stage's entry (or of the end: stage None) with its masks and importance."""
        path = self._stage_file(record["stage"])
        sha256 = write_tensors(path.with_suffix(".safetensors"), tensors)
        row = {**record, "tensors": f"{path.stem}.safetensors", "sha256": sha256}
        write_json(path, finite(row))

    def _stage_file(self, stage: int | None) -> Path:
        return self.folder / "stages" / ("end.json" if stage is None else f"stage-{stage}.json")

    def save_checkpoint(
        self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], stage: int | None = None
    ) -> None:
        """Save a state to resume from. That of a `stage`'s entry is kept, and the newest two of the others."""
        self._flush_rows()  # that this checkpoint builds on
        checkpoints.save(self.folder / "checkpoints", tensors, numbers, stage)

    def _flush_rows(self) -> None:
        for name in ("metrics.jsonl", "timing.jsonl", importance.NAME):
            if (self.folder / name).is_file():
                flush(self.folder / name)

    def load_checkpoint(self) -> State | None:
        """Return the newest undamaged checkpoint, if any, and note the damaged ones before it.

        A fork without any gets its parent's state and records; see `forks.begin`.
        """
        state, faults = self.run.load_checkpoint()
        instead = "an older one is used" if state else "none is undamaged: restarted at the first step"
        for fault in faults:
            self.note(f"{fault}; {instead}")
        return forks.begin(self.run) if state is None and self.run.config.fork else state

    def given_masks(self) -> dict[int, dict[str, Tensor]]:
        """Return the masks that a fork takes from another run; see `forks.given_masks_of`."""
        return forks.given_masks_of(self.run, self.run.config)

    def finish(
        self, result: Mapping[str, Any], weights: Mapping[str, Tensor], outcomes: Mapping[str, Tensor]
    ) -> None:
        """Write final weights, outcomes and figures. Only checkpoints that a run can be forked from stay."""
        files = {"weights": weights, "outcomes": outcomes}
        sums = {
            f"{name}_sha256": write_tensors(self.folder / f"{name}.safetensors", tensors)
            for name, tensors in files.items()
        }
        self._flush_rows()
        write_json(self.folder / "result.json", finite({**result, **sums}))
        self.tidy()
        self.set_state("done")

    def tidy(self) -> None:
        """Remove the checkpoints that a finished run no longer needs."""
        checkpoints.keep(self.folder / "checkpoints", 0)


def record_failure(run: Run, reason: str) -> None:
    """Record that a run failed because its process was lost.

    Nobody holds it then. To hold it here could mean to wait for the heartbeat of a machine that is gone.
    """
    _write_state(run.folder, "failed", reason)


def _write_state(folder: Path, state: str, reason: str | None) -> None:
    make_folder(folder)  # the run may have failed before it was started
    write_json(folder / "status.json", {"state": state, "reason": reason, "time": time.time()})


def finite(value: Any) -> Any:
    """Return `value` with NaN and infinities as None, for strict JSON."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
