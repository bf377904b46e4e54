"""Train one run: from the trainer's records to the store."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense_core.config import DataConfig, RunConfig
from condense_core.files import LeftOut
from condense_core.store import FINISHED, Run, RunHeld, RunStore, record_failure
from condense_core.tables import DATASETS, DataSource, learns_groups

from .reasons import reason_of
from .sources import obstacle, taken_masks

if TYPE_CHECKING:
    from condense_core.data import Dataset, Source
    from condense_core.events import EpochRecord, Result, StageRecord
    from condense_core.store import RunWriter
    from condense_core.training import Trainer


CHECKPOINT_SECONDS = 10.0  # small runs must not spend their time waiting for the disk


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: done, diverged, failed, stopped or held, with the reason and new notes."""

    run: str
    state: str
    reason: str | None = None
    notes: tuple[str, ...] = ()


def keep_going() -> bool:
    """Return False: nobody asks the run to stop."""
    return False


def execute(
    config: RunConfig,
    store: RunStore,
    data_dir: Path,
    should_stop: Callable[[], bool] = keep_going,
    force: bool = False,
) -> Outcome:
    """Train a run until it is finished and write it to the store; a fault is its outcome.

    With `force` a run that cannot be resumed, because code, torch or data changed, is restarted; the old one is
    kept.
    """
    run = store.run(config)
    run.check_links()
    if finished := finished_outcome(run):
        return finished
    if should_stop():
        return Outcome(run.name, "stopped")

    def train(writer: RunWriter) -> str:
        return _train(config, store, run, writer, data_dir, should_stop, force)

    try:
        with run.hold() as writer:
            done = finished_outcome(run) or _blocked_outcome(config, store, writer)
            return done or _execute_held(run, writer, train)
    except RunHeld as error:
        return Outcome(run.name, "held", str(error).removeprefix(f"run {run.name}: "))
    except OSError as error:
        from condense_core.distributed import is_shared_fault

        if not is_shared_fault(error):
            raise
        return Outcome(run.name, "failed", f"cannot be held: {error}")


def finished_outcome(run: Run) -> Outcome | None:
    """Return the outcome of a finished run, else None."""
    status = run.status
    return Outcome(run.name, status["state"], status.get("reason")) if status["state"] in FINISHED else None


def _blocked_outcome(config: RunConfig, store: RunStore, writer: RunWriter) -> Outcome | None:
    """Return the outcome of a run that cannot start because another one is not done, else None."""
    if (found := obstacle(config, store)) is None:
        return None
    state, reason = found
    if state == "failed":
        writer.set_state(state, reason)
    return Outcome(config.name, state, reason)


def _execute_held(run: Run, writer: RunWriter, train: Callable[[RunWriter], str]) -> Outcome:
    from condense_core.distributed import is_shared_fault
    from condense_core.events import Diverged
    from condense_core.looking import same_process

    noted = [note["time"] for note in run.notes()]
    try:
        with same_process():  # a notebook's threads, flags and generators are its own
            state, reason = train(writer), None
    except RunHeld:
        raise  # another process took it over
    except Diverged as error:
        state, reason = "diverged", str(error)
    except Exception as error:  # of any kind: the other runs continue
        if not is_shared_fault(error):
            raise
        state, reason = "failed", reason_of(error)
        writer.write_error(traceback.format_exc())
    except KeyboardInterrupt:  # in a notebook
        writer.set_state("stopped", "interrupted")
        raise
    outcome = Outcome(run.name, state, reason)
    return _conclude(outcome, run, noted, lambda: writer.set_state(state, reason))


def _conclude(outcome: Outcome, run: Run, noted: Container[float], record: Callable[[], None]) -> Outcome:
    """Record the outcome of a run and add its new notes; a full disk must not hide it."""
    try:
        if not finished_outcome(run):
            record()
        notes = tuple(note["text"] for note in run.notes() if note["time"] not in noted)
        return replace(outcome, notes=notes)
    except OSError as error:
        return replace(outcome, state="failed", reason=outcome.reason or f"its state is not recorded: {error}")


def _train(
    config: RunConfig,
    store: RunStore,
    run: Run,
    writer: RunWriter,
    data_dir: Path,
    should_stop: Callable[[], bool],
    force: bool,
) -> str:
    """Train a run that this process holds and return its state: done or stopped."""
    import torch

    from condense_core.distributed import world_size
    from condense_core.events import Snapshot
    from condense_core.masks import fingerprint
    from condense_core.training import Trainer

    torch.set_num_threads(config.threads)
    torch.backends.cudnn.deterministic = True
    tf32 = config.recipe.precision == "tf32"  # torch's default is tf32 in convolutions
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    dataset = load_data(config.data, data_dir, config.seed)
    masks = taken_masks(config, store)
    writer.start(config, dataset.fingerprint, world_size(), force, fingerprint(masks) if masks else None)
    if run.is_trained:
        writer.tidy()  # its process was killed in its last steps
        return "done"
    trainer = Trainer(config, dataset, writer.given_masks(), masks)
    if checkpoint := writer.load_checkpoint():
        trainer.restore(Snapshot(*checkpoint))
    writer.drop_epochs_after(trainer.step // trainer.steps_per_epoch)
    for ready, kernels in trainer.compile():
        doing = f"compiling kernels once: {ready} of {kernels}"
        writer.set_state("running", doing if ready < kernels else None)
    return "done" if _write_records(writer, trainer, should_stop) else "stopped"


def _write_records(writer: RunWriter, trainer: Trainer, should_stop: Callable[[], bool]) -> bool:
    """Train and write the trainer's records; return whether the run is finished."""
    from condense_core.distributed import any_rank
    from condense_core.events import EpochRecord, Result, StageEntry, StageRecord

    def save(stage: int | None = None) -> None:
        snapshot = trainer.snapshot()
        writer.save_checkpoint(snapshot.tensors, snapshot.numbers, stage)

    epoch_began = saved = time.monotonic()
    for record in trainer.run(should_stop):
        now = time.monotonic()
        writer.check()
        match record:
            case StageEntry(stage=0):
                pass  # the seed gives this state
            case StageEntry(stage=stage):
                save(stage)
            case StageRecord():
                writer.write_stage(*_stage_row(record))
            case EpochRecord():
                _keep_importance(writer, trainer, record.epoch)
                writer.append_epoch(_epoch_row(record), now - epoch_began)
                if any_rank(now - saved >= CHECKPOINT_SECONDS):
                    save()
                    saved = now
                epoch_began = now
            case Result():
                writer.finish(_result_row(record), trainer.model.state_dict(), record.outcomes)
                return True
    writer.check()
    save()
    return False


def _keep_importance(writer: RunWriter, trainer: Trainer, epoch: int) -> None:
    from condense_core.condensation import importances

    every = trainer.config.importance_every
    if every and epoch % every == 0 and learns_groups(trainer.config.model.grouping):
        writer.append_importance(epoch, importances(trainer.model))


def _epoch_row(record: EpochRecord) -> dict[str, Any]:
    row = asdict(record)
    curves = row.pop("curves")
    return row | {f"curve_{name}": value for name, value in curves.items()}


def _result_row(record: Result) -> dict[str, Any]:
    row = {name: value for name, value in vars(record).items() if name not in ("test", "outcomes")}
    return row | {f"test_{name}": value for name, value in asdict(record.test).items()}


def _stage_row(record: StageRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    row = {name: getattr(record, name) for name in ("stage", "epoch", "step", "macs", "flops_paper", "params")}
    for moment in ("before", "after"):
        evaluation = getattr(record, moment)
        row[moment] = evaluation and asdict(evaluation)
    tensors = {f"mask.{layer}": mask for layer, mask in record.masks.items()}
    tensors |= {f"importance.{layer}": value for layer, value in record.importance.items()}
    return row, tensors


def load_data(config: DataConfig, data_dir: Path, seed: int = 0) -> Dataset:
    """Load the data set as runs with this seed see it; a name that was registered again is loaded again."""
    return _split_images(config, data_dir, seed, DATASETS.get(config.kind))


@lru_cache(maxsize=1)
def _split_images(config: DataConfig, data_dir: Path, seed: int, entry: DataSource | None) -> Dataset:
    from condense_core.data import split

    return split(_all_images(config, data_dir, entry), config, seed)


@lru_cache(maxsize=1)
def _all_images(config: DataConfig, data_dir: Path, _: DataSource | None) -> Source:
    """Load the images, decoded once for all runs of a process."""
    from condense_core.data import read

    with quietly():
        return read(config, data_dir)


@contextmanager
def quietly() -> Iterator[None]:
    """Load data without a word of the files that are left out, which the study's plan has said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeftOut)
        yield


def failed(run: Run, reason: str) -> Outcome:
    """Record that a run failed whose process was lost, and return this outcome."""
    noted = [note["time"] for note in run.notes()]
    return _conclude(Outcome(run.name, "failed", reason), run, noted, lambda: record_failure(run, reason))
