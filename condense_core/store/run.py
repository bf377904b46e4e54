"""Read a run: one folder in plain formats, in which a crash loses nothing that was finished.

store.json                      marks a run store
runs.tar.xz                     what was unpacked here, if it is a packed store (`packed.py`)
studies/<name>.json             the runs of a study
benchmarks/<moment>.json        measured times
<variant>-k<k0>-s<seed>-<hash>/  or <variant>-s<seed>-<hash>/ for a tracked run (`TrackedConfig`)
    config.json                 configuration, versions, hash of the code, commit, fingerprint of the data
    status.json                 running, stopped, done, diverged or failed, with the reason
    metrics.jsonl               one row per epoch; timing.jsonl: its seconds
    importance.jsonl            the importance of every connection after each epoch, packed
    sensitivity.json            what pruning each layer alone costs, if it was taken (analysis.sensitivity)
    notes.jsonl                 what happened during the run: resumed, a damaged file passed over
    stages/stage-<s>.json       the network at a stage's entry, and end.json; each with its masks and importance
    checkpoints/                the state at each stage's entry, before anything is pruned; the newest ones
    weights.safetensors         the final weights; result.json: their figures
    outcomes.safetensors        what they say of each image: test.predicted, test.probability, ...
superseded/<run>.<n>/           runs that were restarted because code, torch or data changed
locks/                          who trains which run
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from condense_core.config import ModelConfig, RunConfig
from condense_core.files import (
    check_inside,
    check_links,
    check_record,
    is_stray,
    load_arrays,
    plain_name,
    read_checked,
    read_json,
    read_rows,
)
from condense_core.tables import learns_groups
from condense_core.validation import from_dict

from . import checkpoints, importance, locks, schemas
from .checkpoints import Checkpoint, State
from .importance import EpochImportance
from .packed import is_packed, without_weights
from .run_html import run_html
from .tracked import TrackedConfig
from .writer import RunWriter

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Kind = TypeVar("Kind")

FINISHED = ("done", "diverged")
NOT_COMPARED = (  # of equal runs
    *("config.json", "status.json", "timing.jsonl", "notes.jsonl", "error.txt", "sensitivity.json"),
)


@dataclass(frozen=True)
class Run:
    """One run's folder, to read; `hold` gives a writer."""

    folder: Path

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return self.folder.name

    def _read(self, name: str, shape: Any = dict) -> dict[str, Any]:
        """Return a record, empty if there is none. Raise ValueError, naming the file, if it is damaged."""
        path = self.folder / name
        if not path.is_file():
            return {}
        return check_record(read_json(check_inside(path, self.folder)), shape, str(path))

    @property
    def started(self) -> bool:
        """Whether the run was started: from then on its configuration is there."""
        return (self.folder / "config.json").is_file()

    @property
    def is_tracked(self) -> bool:
        """Whether a network and a loop of the user's own made this run."""
        return self.record.get("kind") == "tracked"

    @property
    def config(self) -> RunConfig:
        """The configuration that made this run. Raise ValueError if it is a tracked one."""
        if self.is_tracked:
            raise ValueError(
                f"run {self.name}: is of a network of one's own, which no configuration can build again; "
                "its weights are run.weights()"
            )
        return self._config(RunConfig)

    @property
    def tracked(self) -> TrackedConfig:
        """What is known of a tracked run. Raise ValueError if it is another one."""
        if self.started and not self.is_tracked:
            raise ValueError(f"run {self.name}: is not a tracked one; its configuration is run.config")
        return self._config(TrackedConfig)

    def _config(self, kind: type[Kind]) -> Kind:
        if not self.started:
            raise FileNotFoundError(f"{self.folder}: is no run that was started: it has no config.json")
        try:
            return from_dict(kind, self.record["config"])
        except (KeyError, TypeError, ValueError) as error:
            if str(self.folder) in str(error):
                raise
            raise ValueError(f"{self.folder / 'config.json'}: {error}") from error

    @property
    def network(self) -> ModelConfig | TrackedConfig:
        """What is known of the network: its configuration, or the layers of a tracked run."""
        return self.tracked if self.is_tracked else self.config.model

    @property
    def learns_groups(self) -> bool:
        """Whether its groups choose their inputs while they train."""
        return self.is_tracked or learns_groups(self.config.model.grouping)

    @property
    def seed(self) -> int:
        """The run's seed."""
        return (self.tracked if self.is_tracked else self.config).seed

    @property
    def planned_epochs(self) -> int:
        """How many epochs the whole training has."""
        return self.tracked.epochs if self.is_tracked else self.config.recipe.epochs

    @property
    def record(self) -> dict[str, Any]:
        """The configuration with its environment and the fingerprint of the data."""
        return self._read("config.json", schemas.Config)

    @property
    def status(self) -> dict[str, Any]:
        """State, reason and time; state 'new' if the run was not started."""
        return self._read("status.json", schemas.Status) or {"state": "new"}

    @property
    def result(self) -> dict[str, Any]:
        """Figures of the final weights on the test images; empty until the run is done."""
        return self._read("result.json", schemas.Result)

    def epochs(self) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl without a torn last line."""
        return self._rows("metrics.jsonl", schemas.Epoch)

    def importance_rows(self) -> list[dict[str, Any]]:
        """Rows of importance.jsonl, packed; none if it was not recorded."""
        return self._rows(importance.NAME, schemas.Importance)

    def importances(self) -> list[EpochImportance]:
        """The importance of every connection after each epoch that it was recorded for.

        Raises ValueError, naming file and line, if a row is damaged or the epochs do not rise.
        """
        return importance.unpacked_rows(self.importance_rows(), self.folder / importance.NAME)

    def sensitivity(self) -> dict[str, Any]:
        """What pruning each layer alone costs (`analysis.layer_sensitivity`); empty if it was not taken."""
        return self._read("sensitivity.json", schemas.Sensitivity)

    def notes(self) -> list[dict[str, Any]]:
        """What happened during the run: time, text, and whether the result is still bit-identical."""
        return self._rows("notes.jsonl", schemas.Note)

    def seconds(self) -> float:
        """Seconds spent training and evaluating, over all attempts."""
        return sum(row["seconds"] for row in self.timings())

    def timings(self) -> list[dict[str, Any]]:
        """Rows of timing.jsonl: the seconds of each epoch."""
        return self._rows("timing.jsonl", schemas.Timing)

    def _rows(self, name: str, shape: Any) -> list[dict[str, Any]]:
        path = self.folder / name
        if not path.is_file():
            return []
        rows = read_rows(check_inside(path, self.folder))
        return [check_record(row, shape, f"{path}, line {line}") for line, row in enumerate(rows, start=1)]

    def stages(self) -> list[dict[str, Any]]:
        """Records of the stages' entries and of the end, in order."""
        paths = sorted((self.folder / "stages").glob("*.json"))
        paths = [check_inside(path, self.folder) for path in paths if not is_stray(path.name)]
        found = [schemas.check_stage(read_json(path), path) for path in paths]
        return sorted(found, key=lambda record: (record["stage"] is None, record["stage"]))

    def stage_arrays(self, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """'mask.<layer>' and 'importance.<layer>' of a stage record, checked against its checksum."""
        path = self.folder / "stages" / plain_name(record["tensors"], "tensors")
        return load_arrays(read_checked(path, self.folder, record["sha256"]), path, "numpy")

    def stage_tensors(self, record: Mapping[str, Any]) -> dict[str, Tensor]:
        """`stage_arrays` as torch tensors; importing torch takes seconds."""
        import torch

        return {name: torch.from_numpy(array) for name, array in self.stage_arrays(record).items()}

    def checkpoints(self) -> list[Checkpoint]:
        """The files of the checkpoints, newest first."""
        return checkpoints.checkpoints(self.folder / "checkpoints")

    def load_checkpoint(self) -> tuple[State | None, list[str]]:
        """Return the newest undamaged checkpoint, if any, and the faults of newer ones."""
        return checkpoints.load_newest(self.folder / "checkpoints", len(self.epochs()))

    def weights(self) -> dict[str, Tensor]:
        """The final weights of a run that is done, checked against their checksum.

        Raises FileNotFoundError for a run of a packed store, which has none.
        """
        path = self.folder / "weights.safetensors"
        if not path.exists():
            raise FileNotFoundError(f"{path}: is not there{without_weights(self)}")
        return load_arrays(read_checked(path, self.folder, self.result["weights_sha256"]), path)

    def outcomes(self) -> dict[str, np.ndarray]:
        """What the weights said of each image: 'test.image', '.predicted', '.label', '.probability', (N,).

        'image' is its place in the whole data. 'validation' has the same. Runs of earlier versions have none,
        and neither have runs of a packed store that only tune settings.
        Raises ValueError if the file is damaged or is not that of the run's result.
        """
        result, path = self.result, self.folder / "outcomes.safetensors"
        if "outcomes_sha256" not in result or (not path.exists() and is_packed(self)):
            return {}
        content = read_checked(path, self.folder, result["outcomes_sha256"])
        return schemas.check_outcomes(load_arrays(content, path, "numpy"), result, path)

    @property
    def is_trained(self) -> bool:
        """Whether the final weights and their figures are there and undamaged, even if not yet 'done'."""
        try:
            return bool(self.result) and bool(self.weights())
        except (OSError, ValueError):
            return False

    def fork(self, stage: int, **changes: Any) -> RunConfig:
        """Return the configuration of a run that leaves this one at a stage's entry; see `forks.fork_config`.

        `analysis.train_fork` trains it as well.
        """
        from .forks import fork_config

        return fork_config(self, stage, **changes)

    def contents(self) -> dict[str, bytes]:
        """The files that two runs of one configuration agree on: all but times, notes and the environment."""
        own = [path for path in self.folder.rglob("*") if path.is_file() and not is_stray(path.name)]
        files = [path for path in own if path.name not in NOT_COMPARED]
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in files
            if path.name not in NOT_COMPARED
        }

    def check_links(self) -> None:
        """Raise ValueError if a link leads out of the run's folder, because writing would follow it."""
        check_links(self.folder)

    @contextmanager
    def hold(self) -> Iterator[RunWriter]:
        """Hold the run, so that no other process trains it, and write it. Raises RunHeld, naming the holder."""
        folder = self.folder.parent / "locks"
        check_inside(folder / f"{self.name}.lock", self.folder.parent)
        with locks.hold(folder, self.name) as hold:
            yield RunWriter(self, hold)

    def _repr_html_(self) -> str:
        return run_html(self)
