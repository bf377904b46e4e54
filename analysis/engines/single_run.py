"""How a study is run: one run from its records to the store, and many in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense_core.config import DataConfig, RunConfig
from condense_core.store.locks import RunHeld
from condense_core.store.run import FINISHED, Changed, Run, RunStore

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

    from condense_core.data.datasets import Dataset
    from condense_core.store.locks import Hold
    from condense_core.training import EpochRecord, Result, StageRecord, Trainer


PROCESSES = multiprocessing.get_context("forkserver")  # a worker has torch loaded when it starts
PRELOADED = [
    "analysis.engines.single_run",
    "condense_core.data.datasets",
    "condense_core.training",
    "condense_core.fast.training_block",
]
CHECKPOINT_SECONDS = 10.0  # small runs must not spend their time waiting for the disk
ATTEMPTS = 2  # of a run whose process is killed


@dataclass(frozen=True)
class Outcome:
    """What became of a run: done, diverged, failed, stopped or held, with the reason, and what was noted."""

    run: str
    state: str
    reason: str | None = None
    notes: tuple[str, ...] = ()


def part(configs: Sequence[RunConfig], store: RunStore) -> tuple[list[Outcome], list[RunConfig]]:
    """What became of the runs that are at their end, and those that are left to train."""
    known = [(config, _finished(store.run(config))) for config in configs]
    return [outcome for _, outcome in known if outcome], [config for config, outcome in known if not outcome]


def never() -> bool:
    """Do not stop."""
    return False


def refuse_changed(configs: Sequence[RunConfig], store: RunStore, data_fingerprint: str | None) -> None:
    """Raise Changed where runs that were begun cannot go on, naming all that is not what it was."""
    from condense_core.store.provenance import changes

    begun = [run for config in configs if (run := store.run(config)).begun]
    left = [run for run in begun if run.status["state"] not in FINISHED]
    found = {run.name: changes(run.record, data_fingerprint) for run in left}
    if changed := {name: texts for name, texts in found.items() if texts}:
        texts = sorted({text for texts in changed.values() for text in texts})
        raise Changed(
            f"{len(changed)} of the runs were begun with other code, torch or data: {'; '.join(texts)}. "
            "Undo the change, be it a comment's, and they go on; "
            f"--force begins them anew and keeps what there is ({', '.join(changed)})"
        )


def execute(
    config: RunConfig,
    store: RunStore,
    data_dir: Path,
    should_stop: Callable[[], bool] = never,
    force: bool = False,
) -> Outcome:
    """Train a run to its end, from where it stands, writing all of it to the store; a fault is its outcome.

    By `force` a run that cannot go on, for its code, torch or data changed, is begun anew beside the old one.
    """
    run = store.run(config)
    run.check_links()
    if finished := _finished(run):
        return finished
    if should_stop():
        return Outcome(run.name, "stopped")
    try:
        with run.hold() as held:
            return _finished(run) or _execute_held(config, run, data_dir, should_stop, force, held)
    except RunHeld as error:
        return Outcome(run.name, "held", str(error).removeprefix(f"run {run.name}: "))
    except OSError as error:
        from condense_core.distributed.ranks import in_step

        if not in_step(error):
            raise
        return Outcome(run.name, "failed", f"cannot be held: {error}")


def _finished(run: Run) -> Outcome | None:
    """What became of a run that is at its end."""
    status = run.status
    return Outcome(run.name, status["state"], status.get("reason")) if status["state"] in FINISHED else None


def _execute_held(
    config: RunConfig, run: Run, data_dir: Path, should_stop: Callable[[], bool], force: bool, held: Hold
) -> Outcome:
    from condense_core.distributed.ranks import in_step
    from condense_core.training import Diverged

    noted = [note["time"] for note in run.notes()]
    try:
        state, reason = _train(config, run, data_dir, should_stop, force, held), None
    except RunHeld:
        raise  # it is another's by now
    except Diverged as error:
        state, reason = "diverged", str(error)
    except Exception as error:  # whatever it is: the other runs go on
        if not in_step(error):
            raise
        state, reason = "failed", f"{type(error).__name__}: {error}"
        run.write_error(traceback.format_exc())
    except KeyboardInterrupt:  # in a notebook
        run.set_state("stopped", "interrupted")
        raise
    return _conclude(Outcome(run.name, state, reason), run, noted)


def _conclude(outcome: Outcome, run: Run, noted: list[float]) -> Outcome:
    """Record what became of a run; a disk that is full must not hide it."""
    try:
        if not _finished(run):
            run.set_state(outcome.state, outcome.reason)
        notes = tuple(note["text"] for note in run.notes() if note["time"] not in noted)
        return replace(outcome, notes=notes)
    except OSError as error:
        return replace(outcome, state="failed", reason=outcome.reason or f"its state is not recorded: {error}")


def _train(
    config: RunConfig, run: Run, data_dir: Path, should_stop: Callable[[], bool], force: bool, held: Hold
) -> str:
    import torch

    from condense_core.training import Snapshot, Trainer

    torch.set_num_threads(config.threads)
    torch.backends.cudnn.deterministic = True
    tf32 = config.recipe.precision == "tf32"  # torch's default is tf32 in convolutions
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    dataset = load_data(config.data, data_dir)
    run.begin(config, dataset.fingerprint, force)
    if run.is_whole:
        run.tidy()  # it was killed on its last steps
        return "done"
    trainer = Trainer(config, dataset)
    if checkpoint := run.load_checkpoint():
        trainer.restore(Snapshot(*checkpoint))
    run.drop_epochs_after(trainer.step // trainer.steps_per_epoch)
    return "done" if _write_records(run, trainer, should_stop, held) else "stopped"


def _write_records(run: Run, trainer: Trainer, should_stop: Callable[[], bool], held: Hold) -> bool:
    """Train and write what comes; whether it came to the end."""
    from condense_core.distributed.ranks import any_rank
    from condense_core.training import EpochRecord, Result, StageEntry, StageRecord

    def save(stage: int | None = None) -> None:
        snapshot = trainer.snapshot()
        run.save_checkpoint(snapshot.tensors, snapshot.numbers, stage)

    epoch_began = saved = time.monotonic()
    for record in trainer.run(should_stop):
        now = time.monotonic()
        held.check()
        match record:
            case StageEntry(stage=0):
                pass  # the seed alone makes this state
            case StageEntry(stage=stage):
                save(stage)
            case StageRecord():
                run.write_stage(*_stage_row(record))
            case EpochRecord():
                run.append_epoch(_epoch_row(record), now - epoch_began)
                if any_rank(now - saved >= CHECKPOINT_SECONDS):
                    save()
                    saved = now
                epoch_began = now
            case Result():
                run.finish(_result_row(record), trainer.model.state_dict())
                return True
    held.check()
    save()
    return False


def _epoch_row(record: EpochRecord) -> dict[str, Any]:
    row = asdict(record)
    curves = row.pop("curves")
    return row | {f"curve_{name}": value for name, value in curves.items()}


def _result_row(record: Result) -> dict[str, Any]:
    row = asdict(record)
    test = row.pop("test")
    return row | {f"test_{name}": value for name, value in test.items()}


def _stage_row(record: StageRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    row = {name: getattr(record, name) for name in ("stage", "epoch", "step", "macs", "flops_paper", "params")}
    for moment in ("before", "after"):
        evaluation = getattr(record, moment)
        row[moment] = evaluation and asdict(evaluation)
    tensors = {f"mask.{layer}": mask for layer, mask in record.masks.items()}
    tensors |= {f"importance.{layer}": value for layer, value in record.importance.items()}
    return row, tensors


@lru_cache(maxsize=1)
def load_data(config: DataConfig, data_dir: Path) -> Dataset:
    """The data set, decoded once for all runs of a process."""
    from condense_core.data.datasets import load

    return load(config, data_dir)


def default_jobs(threads: int, device: str) -> int:
    """As many runs at once as the cores carry; one where they share a GPU."""
    return 1 if device == "cuda" else max(1, (os.cpu_count() or 1) // threads)


def run_all(
    configs: Sequence[RunConfig],
    store: RunStore,
    data_dir: Path,
    jobs: int | None = None,
    progress: bool = False,
    force: bool = False,
    elsewhere: Callable[..., Iterator[Outcome]] | None = None,
) -> list[Outcome]:
    """Train runs, `jobs` at once (in this process if 1), and return what became of each.

    `elsewhere` takes the place of `execute_all`: with `jobs` None it trains as many at once as it carries.
    `progress` shows a bar of those that are left: a widget in a notebook, text elsewhere.
    """
    from tqdm.auto import tqdm

    finished, left = part(configs, store)
    if not left:
        return finished
    if elsewhere:
        outcomes = elsewhere(left, store, data_dir, jobs, StopSwitch(), force)
    elif jobs is None or jobs == 1:
        outcomes = (execute(config, store, data_dir, force=force) for config in left)
    else:
        outcomes = execute_all(left, store, data_dir, jobs, StopSwitch(), force)
    return finished + list(tqdm(outcomes, "training", total=len(left), unit="run", disable=not progress))


def prepare_workers() -> None:
    """Start the process that workers are forked from: it loads torch while this one does other things."""
    PROCESSES.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


class StopSwitch:
    """A switch that all worker processes see: set, every run saves its state and ends; `now`: at once."""

    def __init__(self) -> None:
        self.event: Event = PROCESSES.Event()
        self.now: Event = PROCESSES.Event()


_should_stop: Callable[[], bool] = never


def _start_worker(event: Event, now: Event) -> None:
    """Let a worker see the switch, which a scheduler's SIGTERM to all processes sets as well."""
    global _should_stop  # noqa: PLW0603 — a worker is told once, when it starts
    study = multiprocessing.parent_process()

    def should_stop() -> bool:
        return event.is_set() or not (study and study.is_alive())  # it was killed: nobody waits for its runs

    _should_stop = should_stop

    def stop(signum: int, frame: Any) -> None:
        event.set()
        if now.is_set():
            os._exit(128 + signum)

    signal.signal(signal.SIGTERM, stop)


def _execute_in_worker(config: RunConfig, store: RunStore, data_dir: Path, force: bool) -> Outcome:
    return execute(config, store, data_dir, _should_stop, force)


def execute_all(
    configs: Iterable[RunConfig],
    store: RunStore,
    data_dir: Path,
    jobs: int,
    stop: StopSwitch,
    force: bool = False,
) -> Iterator[Outcome]:
    """Train runs, `jobs` at once, in processes of their own; yields outcomes as they come.

    A run whose process is killed is tried once more; the others do not notice.
    """
    from pebble import ProcessPool

    prepare_workers()
    with ProcessPool(
        jobs, context=PROCESSES, initializer=_start_worker, initargs=[stop.event, stop.now]
    ) as pool:

        def schedule(config: RunConfig) -> Future[Outcome]:
            return pool.schedule(_execute_in_worker, args=[config, store, data_dir, force])

        waiting = {schedule(config): (config, 1) for config in configs}
        try:
            while waiting:
                finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    config, attempt = waiting.pop(future)
                    if (fault := future.exception()) is None:
                        yield future.result()
                    elif attempt < ATTEMPTS and not stop.event.is_set():
                        waiting[schedule(config)] = (config, attempt + 1)
                    else:
                        yield _killed(store.run(config), fault, attempt)
        except BaseException:
            pool.stop()
            raise


def _killed(run: Run, fault: BaseException, attempts: int) -> Outcome:
    code = getattr(fault, "exitcode", None)
    cause = (
        f"its process was killed by signal {-code}" if code and code < 0 else f"{type(fault).__name__}: {fault}"
    )
    reason = f"{cause} ({attempts} attempts)" + (", perhaps for want of memory" if code == -9 else "")
    return failed(run, reason)


def failed(run: Run, reason: str) -> Outcome:
    """The outcome of a run that could not record it itself."""
    return _conclude(Outcome(run.name, "failed", reason), run, [note["time"] for note in run.notes()])
