"""The engine of worker processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense_core.config import RunConfig
from condense_core.store import Run, RunStore

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

from .launch import split_finished
from .single_run import Outcome, execute, failed, keep_going

PROCESSES = multiprocessing.get_context("forkserver")  # a worker has torch loaded when it starts


PRELOADED = [
    "analysis.engines.single_run",
    "condense_core.data.datasets",
    "condense_core.training",
    "condense_core.fast.training_block",
]


ATTEMPTS = 2  # of a run whose process is killed


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

    finished, left = split_finished(configs, store)
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


_should_stop: Callable[[], bool] = keep_going


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
