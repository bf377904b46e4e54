"""The run store: a folder a run, in plain formats, in which a crash loses nothing that was finished.

store.json                      marks a run store
studies/<name>.json             the runs of a study
benchmarks/<moment>.json        times that were measured
<variant>-k<k0>-s<seed>-<hash>/
    config.json                 configuration, versions, commit, fingerprint of the data
    status.json                 running, stopped, done, diverged or failed, with the reason
    metrics.jsonl               a row an epoch; timing.jsonl: its seconds
    stages/stage-<s>.json       the network at a stage's entry, and end.json; masks and importance beside it
    checkpoints/                the state at each stage's entry, before anything is pruned; the newest ones
    weights.safetensors         the last weights; result.json: their figures
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from . import records
from .config import RunConfig
from .files import write_atomically, write_json
from .settings import from_dict, to_dict
from .untrusted import (
    check_inside,
    check_record,
    load_arrays,
    plain_name,
    read_json,
    read_rows,
    read_tensors,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

FORMAT = 1
FINISHED = ("done", "diverged")
NEWEST_CHECKPOINTS = 2


class RunHeld(Exception):
    """Another process trains this run."""


def finite(value: Any) -> Any:
    """`value` with NaN and infinities as None, for strict JSON."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@lru_cache
def environment() -> dict[str, Any]:
    """Versions, platform and git commit of what trains."""
    packages = {name: version(name) for name in ("condense", "torch", "torchvision", "numpy")}
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        **packages,
        **_git(),
    }


def _git() -> dict[str, Any]:
    here = Path(__file__).parent

    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


@dataclass(frozen=True)
class RunStore:
    """A folder of runs. Raises ValueError where `root` is a folder of something else."""

    root: Path

    def __post_init__(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"runs {str(self.root)!r}: is not a folder")
        if self.root.is_dir() and any(self.root.iterdir()) and not (self.root / "store.json").is_file():
            raise ValueError(f"runs {str(self.root)!r}: is not a run store (it has files, but no store.json)")

    def create(self) -> None:
        """Make the folder where it is not there yet. Raises PermissionError where it cannot be written."""
        self.root.mkdir(parents=True, exist_ok=True)
        if not os.access(self.root, os.W_OK):
            raise PermissionError(f"runs {str(self.root)!r}: cannot be written")
        if not (self.root / "store.json").is_file():
            write_json(self.root / "store.json", {"format": FORMAT})
        (self.root / "studies").mkdir(exist_ok=True)

    def run(self, config: RunConfig) -> Run:
        """The run of a configuration, whether it was begun or not."""
        return self.named(config.name)

    def named(self, name: str) -> Run:
        """The run of a name. Raises ValueError where that is no plain name or a link out of the store."""
        return Run(check_inside(self.root / plain_name(name, "run"), self.root))

    def runs(self) -> list[Run]:
        """Every run that was begun, by name."""
        return [Run(path.parent) for path in sorted(self.root.glob("*/config.json"))]

    def write_study(self, name: str, study: Mapping[str, Any]) -> None:
        """Remember which runs belong to a study."""
        write_json(self.root / "studies" / f"{plain_name(name, 'study')}.json", study)

    def read_study(self, name: str) -> dict[str, Any]:
        """A study's runs and settings. Raises FileNotFoundError, naming those that there are, or ValueError."""
        path = self.root / "studies" / f"{plain_name(name, 'study')}.json"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in path.parent.glob("*.json"))) or "none"
            raise FileNotFoundError(f"study {name!r}: not in {self.root} (there: {known})")
        return dict(records.check_study(read_json(check_inside(path, self.root)), path))

    def write_benchmark(self, record: Mapping[str, Any]) -> Path:
        """Keep measured times beside the runs, under the moment at which they were taken."""
        (self.root / "benchmarks").mkdir(exist_ok=True)
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        path = self.root / "benchmarks" / f"{moment}-{uuid.uuid4().hex[:6]}.json"
        write_json(path, record)
        return path

    def benchmarks(self) -> list[dict[str, Any]]:
        """Every benchmark that was kept and can be read, the oldest first; of others a warning tells."""
        paths = sorted((self.root / "benchmarks").glob("*.json"))
        return [record for path in paths for record in records.sound(self._benchmark, path)]

    def _benchmark(self, path: Path) -> dict[str, Any]:
        return records.check_benchmark(read_json(check_inside(path, self.root)), path)


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
        return self._read("config.json", records.CONFIG)

    @property
    def status(self) -> dict[str, Any]:
        """State, reason and times; state 'new' where nothing was begun."""
        return self._read("status.json", records.STATUS) or {"state": "new"}

    @property
    def result(self) -> dict[str, Any]:
        """Figures of the last weights on the test images; empty until the run is done."""
        return self._read("result.json", records.RESULT)

    def epochs(self) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl; a torn last line is left out."""
        return self._rows("metrics.jsonl", records.EPOCH)

    def seconds(self) -> float:
        """Seconds spent training and evaluating, over all attempts."""
        return sum(row["seconds"] for row in self._rows("timing.jsonl", records.TIMING))

    def _rows(self, name: str, shape: Any) -> list[dict[str, Any]]:
        path = self.folder / name
        if not path.is_file():
            return []
        rows = read_rows(check_inside(path, self.folder))
        return [check_record(row, shape, f"{path}, line {line}") for line, row in enumerate(rows, start=1)]

    def stages(self) -> list[dict[str, Any]]:
        """Records of the stages' entries and of the end, in order."""
        paths = (self.folder / "stages").glob("*.json")
        found = [records.check_stage(read_json(check_inside(path, self.folder)), path) for path in paths]
        return sorted(found, key=lambda record: (record["stage"] is None, record["stage"]))

    def stage_arrays(self, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """'mask.<layer>' and 'importance.<layer>' of a stage record, checked against its checksum."""
        path = self.folder / "stages" / plain_name(record["tensors"], "tensors")
        return load_arrays(self._checked(path, record["sha256"]), path, "numpy")

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

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the run, so that no other process trains it. Raises RunHeld, saying who does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = self._read("holder.json")
            who = f"process {holder.get('process')} on {holder.get('host')}"
            raise RunHeld(f"run {self.name}: is being trained by {who}") from None
        try:
            write_json(self.folder / "holder.json", {"process": os.getpid(), "host": socket.gethostname()})
            yield
        finally:
            lock.release()

    def begin(self, config: RunConfig, data_fingerprint: str) -> None:
        """Write the configuration of a new run, or check that an old one still has the same data."""
        (self.folder / "stages").mkdir(exist_ok=True)
        (self.folder / "checkpoints").mkdir(exist_ok=True)
        known = self.record
        if known and known["data_fingerprint"] != data_fingerprint:
            raise ValueError(
                f"run {self.name}: the data changed since it was begun "
                f"({known['data_fingerprint']} then, {data_fingerprint} now); remove its folder to start anew"
            )
        if not known:
            record = {
                "config": to_dict(config),
                "data_fingerprint": data_fingerprint,
                "environment": environment(),
            }
            write_json(self.folder / "config.json", record)
        self.set_state("running")

    def set_state(self, state: str, reason: str | None = None) -> None:
        """Record what became of the run."""
        write_json(self.folder / "status.json", {"state": state, "reason": reason, "time": time.time()})

    def append_epoch(self, row: Mapping[str, Any], seconds: float) -> None:
        """Add an epoch's row, and apart from it, for it differs from run to run, the time it took."""
        for name, value in (
            ("metrics.jsonl", finite(row)),
            ("timing.jsonl", {"epoch": row["epoch"], "seconds": round(seconds, 4)}),
        ):
            with (self.folder / name).open("a") as file:
                file.write(json.dumps(value, allow_nan=False) + "\n")

    def drop_epochs_after(self, epoch: int) -> None:
        """Drop the rows of epochs that will be trained again."""
        for name in ("metrics.jsonl", "timing.jsonl"):
            shape = records.EPOCH if name == "metrics.jsonl" else records.TIMING
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
        folder = self.folder / "checkpoints"
        if (metrics := self.folder / "metrics.jsonl").is_file():
            with metrics.open("rb") as file:
                os.fsync(file.fileno())  # the rows that this checkpoint builds on
        name = f"step-{numbers['step']}.safetensors" if stage is None else f"stage-{stage}.safetensors"
        entry = {
            "file": name,
            "sha256": _save_tensors(folder / name, tensors),
            "stage": stage,
            "numbers": dict(numbers),
        }
        entries = [entry, *(old for old in self.checkpoints() if old["file"] != name)]
        passing = [old for old in entries if old["stage"] is None]
        entries = [old for old in entries if old not in passing[NEWEST_CHECKPOINTS:]]
        self._keep_checkpoints(entries)

    def _keep_checkpoints(self, entries: list[dict[str, Any]]) -> None:
        folder = self.folder / "checkpoints"
        write_json(folder / "index.json", entries)
        kept = {entry["file"] for entry in entries}
        for path in folder.glob("*.safetensors"):
            if path.name not in kept:
                path.unlink()

    def checkpoints(self) -> list[dict[str, Any]]:
        """The checkpoints that there are, newest first: file, sha256, stage, numbers."""
        path = self.folder / "checkpoints" / "index.json"
        if not path.is_file():
            return []
        return check_record(read_json(check_inside(path, self.folder)), records.CHECKPOINTS, str(path))

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and numbers of the newest checkpoint that is whole; None where there is none."""
        for entry in self.checkpoints():
            try:
                path = self.folder / "checkpoints" / plain_name(entry["file"], "checkpoint")
                tensors = load_arrays(self._checked(path, entry["sha256"]), path)
            except (OSError, ValueError):
                continue  # damaged: the one before it is as good, only older
            return tensors, entry["numbers"]
        return None

    def finish(self, result: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Write the last weights and their figures; checkpoints stay only where a run can be forked."""
        sha256 = _save_tensors(self.folder / "weights.safetensors", weights)
        write_json(self.folder / "result.json", finite({**result, "weights_sha256": sha256}))
        self._keep_checkpoints([entry for entry in self.checkpoints() if entry["stage"] is not None])
        self.set_state("done")

    def weights(self) -> dict[str, Tensor]:
        """The last weights of a run that is done, checked against their checksum."""
        path = self.folder / "weights.safetensors"
        return load_arrays(self._checked(path, self.result["weights_sha256"]), path)

    def _checked(self, path: Path, sha256: str) -> bytes:
        """The content of a safetensors file. Raises ValueError where it is not that of the checksum."""
        content = read_tensors(check_inside(path, self.folder))
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError(f"{path}: does not match its checksum")
        return content


def _settings(config: Any) -> str:
    """The settings of a configuration as one text, without those that are not set."""
    values = {name: value for name, value in to_dict(config).items() if value is not None}
    texts = ((name, ", ".join(map(str, v)) if isinstance(v, list) else v) for name, v in values.items())
    return "; ".join(f"{name} {text}" for name, text in texts)


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_atomically(path, lambda file: file.write(content))
    return hashlib.sha256(content).hexdigest()
