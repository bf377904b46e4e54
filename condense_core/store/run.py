"""The run store: a folder a run, in plain formats, in which a crash loses nothing that was finished.

store.json                      marks a run store
studies/<name>.json             the runs of a study
benchmarks/<moment>.json        times that were measured
<variant>-k<k0>-s<seed>-<hash>/
    config.json                 configuration, versions, hash of the code, commit, fingerprint of the data
    status.json                 running, stopped, done, diverged or failed, with the reason
    metrics.jsonl               a row an epoch; timing.jsonl: its seconds
    notes.jsonl                 what happened to it on the way: resumed, a damaged file passed over
    stages/stage-<s>.json       the network at a stage's entry, and end.json; masks and importance beside it
    checkpoints/                the state at each stage's entry, before anything is pruned; the newest ones
    weights.safetensors         the last weights; result.json: their figures
superseded/<run>.<n>/           runs that were begun anew because code, torch or data had changed
locks/                          who trains what
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense_core.config import HOW_COMPUTED, RunConfig
from condense_core.files import (
    UNFINISHED,
    append_row,
    check_inside,
    check_links,
    check_record,
    flush,
    load_arrays,
    make_folder,
    move,
    plain_name,
    read_checked,
    read_json,
    read_rows,
    write_atomically,
    write_json,
)
from condense_core.validation import from_dict, to_dict

from . import checkpoints, locks, provenance, schemas
from .run_html import _settings
from .writer import Changed, _save_tensors, finite

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

FINISHED = ("done", "diverged")
DIFFERING = ("config.json", "status.json", "timing.jsonl", "notes.jsonl", "error.txt")  # between equal runs


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    folder: Path

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return self.folder.name

    def _read(self, name: str, shape: Any = dict) -> dict[str, Any]:
        """A record; empty where there is none. Raises ValueError, naming the file, where it is damaged."""
        path = self.folder / name
        if not path.is_file():
            return {}
        return check_record(read_json(check_inside(path, self.folder)), shape, str(path))

    @property
    def begun(self) -> bool:
        """Whether it was begun: its configuration stands there from then on."""
        return (self.folder / "config.json").is_file()

    @property
    def config(self) -> RunConfig:
        """The configuration that made this run."""
        try:
            return from_dict(RunConfig, self.record["config"])
        except (KeyError, TypeError, ValueError) as error:
            if str(self.folder) in str(error):
                raise
            raise ValueError(f"{self.folder / 'config.json'}: {error}") from error

    @property
    def record(self) -> dict[str, Any]:
        """What stands beside the configuration: environment and fingerprint of the data."""
        return self._read("config.json", schemas.Config)

    @property
    def status(self) -> dict[str, Any]:
        """State, reason and times; state 'new' where nothing was begun."""
        return self._read("status.json", schemas.Status) or {"state": "new"}

    @property
    def result(self) -> dict[str, Any]:
        """Figures of the last weights on the test images; empty until the run is done."""
        return self._read("result.json", schemas.Result)

    def epochs(self) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl; a torn last line is left out."""
        return self._rows("metrics.jsonl", schemas.Epoch)

    def notes(self) -> list[dict[str, Any]]:
        """What happened to it on the way: time, text, and whether it is still what one machine would give."""
        return self._rows("notes.jsonl", schemas.Note)

    def seconds(self) -> float:
        """Seconds spent training and evaluating, over all attempts."""
        return sum(row["seconds"] for row in self._rows("timing.jsonl", schemas.Timing))

    def _rows(self, name: str, shape: Any) -> list[dict[str, Any]]:
        path = self.folder / name
        if not path.is_file():
            return []
        rows = read_rows(check_inside(path, self.folder))
        return [check_record(row, shape, f"{path}, line {line}") for line, row in enumerate(rows, start=1)]

    def stages(self) -> list[dict[str, Any]]:
        """Records of the stages' entries and of the end, in order."""
        paths = (self.folder / "stages").glob("*.json")
        found = [schemas.check_stage(read_json(check_inside(path, self.folder)), path) for path in paths]
        return sorted(found, key=lambda record: (record["stage"] is None, record["stage"]))

    def stage_arrays(self, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """'mask.<layer>' and 'importance.<layer>' of a stage record, checked against its checksum."""
        path = self.folder / "stages" / plain_name(record["tensors"], "tensors")
        return load_arrays(read_checked(path, self.folder, record["sha256"]), path, "numpy")

    def stage_tensors(self, record: Mapping[str, Any]) -> dict[str, Tensor]:
        """`stage_arrays` for torch, which takes seconds to load."""
        import torch

        return {name: torch.from_numpy(array) for name, array in self.stage_arrays(record).items()}

    def _repr_html_(self) -> str:
        """What a notebook shows: state, settings, and figures as far as there are any."""
        status = self.status
        state = f"{status['state']}: {status['reason']}" if status.get("reason") else status["state"]
        title = f"<p><b>{escape(self.name)}</b> ({escape(state)})</p>"
        if not self.begun:
            return f"{title}<p>It has not begun.</p>"
        config = self.config
        parts = {"model": config.model, "recipe": config.recipe, "data": config.data}
        rows = self._figures(config.recipe.epochs) | {name: _settings(part) for name, part in parts.items()}
        left = 'style="text-align: left"'
        cells = (
            f"<tr><th {left}>{name}</th><td {left}>{escape(text)}</td></tr>" for name, text in rows.items()
        )
        return f"{title}<table>{''.join(cells)}</table>"

    def _figures(self, planned: int) -> dict[str, str]:
        """How far it is, what its network costs by now, and its error, as texts."""
        stages, result = self.stages(), self.result
        names = ["end" if record["stage"] is None else str(record["stage"]) for record in stages]
        rows = {"epochs": f"{len(self.epochs())} of {planned}", "stages": ", ".join(names) or "none yet"}
        if stages:
            macs, flops, params = (stages[-1][name] for name in ("macs", "flops_paper", "params"))
            rows["cost"] = f"{macs:,} MACs ({flops:,} FLOPs as the paper counts), {params:,} parameters"
        if result.get("test_error_percent") is not None:
            rows["error"] = f"{result['test_error_percent']:.2f} % of {result['test_images']} test images"
        return rows

    def hold(self) -> AbstractContextManager[locks.Hold]:
        """Hold the run, so that no other process trains it. Raises RunHeld, saying who does."""
        folder = self.folder.parent / "locks"
        check_inside(folder / f"{self.name}.lock", self.folder.parent)
        return locks.hold(folder, self.name)

    def check_links(self) -> None:
        """Raise ValueError where a link leads out of the run's folder, and what is written would too."""
        check_links(self.folder)

    def begin(self, config: RunConfig, data_fingerprint: str, force: bool = False) -> None:
        """Write the configuration of a new run, or see whether one that was begun can go on.

        Raises Changed where code, torch or data are not what they were; by `force` it is begun anew, beside it.
        """
        from condense_core.distributed import world_size

        for path in self.folder.rglob(UNFINISHED):
            path.unlink()
        if self.begun:
            if not (changes := provenance.changes(self.record, data_fingerprint)):
                self._note_other_computation(config, world_size())
                self.set_state("running")
                return
            if not force:
                raise Changed(
                    f"run {self.name}: cannot go on with what is not what it was begun with: "
                    f"{'; '.join(changes)}. --force begins it anew and keeps what there is"
                )
            self._set_aside(changes)
        for folder in ("stages", "checkpoints"):
            make_folder(self.folder / folder)
        record = {
            "config": to_dict(config),
            "data_fingerprint": data_fingerprint,
            "environment": provenance.environment(),
            "code": provenance.code(),
            "ranks": world_size(),
        }
        write_json(self.folder / "config.json", record)
        self.set_state("running")

    def _set_aside(self, changes: list[str]) -> None:
        aside = self.folder.parent / "superseded"
        make_folder(aside)
        number = next(n for n in range(1, 10**6) if not (aside / f"{self.name}.{n}").exists())
        move(self.folder, aside / f"{self.name}.{number}")
        make_folder(self.folder)
        self.note(f"begun anew, the old one is {aside.name}/{self.name}.{number}: {'; '.join(changes)}")

    def _note_other_computation(self, config: RunConfig, ranks: int) -> None:
        """Say where a run goes on with other threads or ranks, on another device or another processor."""
        record, processor = self.record, provenance.environment()["processor"]
        then = record["config"] | {"ranks": record.get("ranks", 1)}
        then["processor"] = record["environment"].get("processor", processor)
        now = to_dict(config) | {"ranks": ranks, "processor": processor}
        names = [name for name in (*HOW_COMPUTED, "ranks", "processor") if then.get(name) != now[name]]
        if names:
            what = ", ".join(f"{name} {now[name]} (begun with {then.get(name)})" for name in names)
            self.note(f"goes on with {what}: not bit-identical to a run of one piece", bit_identical=False)

    def note(self, text: str, bit_identical: bool = True) -> None:
        """Write down what happened to the run."""
        append_row(
            self.folder / "notes.jsonl", {"time": time.time(), "text": text, "bit_identical": bit_identical}
        )

    def set_state(self, state: str, reason: str | None = None) -> None:
        """Record what became of the run."""
        make_folder(self.folder)  # it may have died before it began
        write_json(self.folder / "status.json", {"state": state, "reason": reason, "time": time.time()})

    def write_error(self, trace: str) -> None:
        """Keep where in the code the run failed, if the disk still takes it."""
        text = trace.encode(errors="backslashreplace")
        with suppress(OSError):
            make_folder(self.folder)
            write_atomically(self.folder / "error.txt", lambda file: file.write(text))

    def append_epoch(self, row: Mapping[str, Any], seconds: float) -> None:
        """Add an epoch's row, and apart from it, for it differs from run to run, the time it took."""
        append_row(self.folder / "metrics.jsonl", finite(row))
        append_row(self.folder / "timing.jsonl", {"epoch": row["epoch"], "seconds": round(seconds, 4)})

    def drop_epochs_after(self, epoch: int) -> None:
        """Drop the rows of epochs that will be trained again."""
        for name, shape in (("metrics.jsonl", schemas.Epoch), ("timing.jsonl", schemas.Timing)):
            kept = [row for row in self._rows(name, shape) if row["epoch"] <= epoch]
            text = "".join(json.dumps(row) + "\n" for row in kept)
            write_atomically(self.folder / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]

    def write_stage(self, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Write the record of a stage's entry (or of the end: stage None) with its masks and importance."""
        name = "end" if record["stage"] is None else f"stage-{record['stage']}"
        sha256 = _save_tensors(self.folder / "stages" / f"{name}.safetensors", tensors)
        row = {**record, "tensors": f"{name}.safetensors", "sha256": sha256}
        write_json(self.folder / "stages" / f"{name}.json", finite(row))

    def save_checkpoint(
        self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], stage: int | None = None
    ) -> None:
        """Save a state to go on from; that of a `stage`'s entry is kept, of the others the newest two."""
        for name in ("metrics.jsonl", "timing.jsonl"):
            if (self.folder / name).is_file():
                flush(self.folder / name)  # the rows that this checkpoint builds on
        checkpoints.save(self.folder / "checkpoints", tensors, numbers, stage)

    def checkpoints(self) -> list[checkpoints.Checkpoint]:
        """The checkpoints that there are, newest first."""
        return checkpoints.checkpoints(self.folder / "checkpoints")

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and numbers of the newest checkpoint that is whole; None where there is none."""
        faults: list[str] = []
        found = next(checkpoints.load(self.folder / "checkpoints", len(self.epochs()), faults.append), None)
        for fault in faults:
            self.note(
                f"{fault}; {'an older one is used' if found else 'none is whole: begun at the first step'}"
            )
        return found

    def finish(self, result: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Write the last weights and their figures; checkpoints stay only where a run can be forked."""
        sha256 = _save_tensors(self.folder / "weights.safetensors", weights)
        flush(self.folder / "metrics.jsonl")
        write_json(self.folder / "result.json", finite({**result, "weights_sha256": sha256}))
        self.tidy()
        self.set_state("done")

    @property
    def is_whole(self) -> bool:
        """Whether the last weights and their figures stand there, though perhaps not that it is done."""
        try:
            return bool(self.result) and bool(self.weights())
        except (OSError, ValueError):
            return False

    def tidy(self) -> None:
        """Remove the checkpoints that a run which is at its end needs no more."""
        checkpoints.keep(self.folder / "checkpoints", 0)

    def contents(self) -> dict[str, bytes]:
        """What two runs of one configuration agree on: every file but times, and what happened on the way."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name not in DIFFERING]
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}

    def weights(self) -> dict[str, Tensor]:
        """The last weights of a run that is done, checked against their checksum."""
        path = self.folder / "weights.safetensors"
        return load_arrays(read_checked(path, self.folder, self.result["weights_sha256"]), path)
