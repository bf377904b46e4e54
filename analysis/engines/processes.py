"""The engines of this machine: worker processes, or this process alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path
from typing import Any

from condense_core.config import DataConfig, RunConfig
from condense_core.files import Unflushed
from condense_core.machine import usable_cores
from condense_core.store import Run, RunStore

from .engine import Engine
from .reasons import reason_of
from .single_run import Outcome, execute, failed, keep_going
from .sources import startable
from .stopping import StopSwitch, stop_signals

PROCESSES = multiprocessing.get_context("forkserver")  # a worker has torch loaded when it starts
PRELOADED = [
    "analysis.engines.single_run",
    "condense_core.cost.of_model",
    "condense_core.data.loaders",
    "condense_core.data.streaming",
    "condense_core.training",
    "condense_core.distributed.ranks",
    "condense_core.fast.engines",
    "condense_core.fast.program.programs",
]
OBEYED = (signal.SIGTERM, signal.SIGHUP)  # by workers; a SIGINT is left to the study
MAX_TMPDIR = 70  # bytes
UNGUARDED = 84  # exit status of a process that would train the study again while it imports the script
ATTEMPTS = 2  # of a run whose process is killed


class ThisProcess(Engine):
    """Trains one run after another in this process."""

    def slots(self, config: RunConfig, jobs: int | None = None) -> int:
        """Return 1."""
        return 1

    def execute_all(
        self,
        configs: Iterable[RunConfig],
        store: RunStore,
        data_dir: Path,
        jobs: int | None,
        stop: StopSwitch,
        force: bool = False,
    ) -> Iterator[Outcome]:
        """Train runs one after another; yields their outcomes as they come."""
        for config in configs:
            yield execute(config, store, data_dir, stop.is_set, force)


class ProcessEngine(Engine):
    """Trains runs in worker processes of this machine."""

    def slots(self, config: RunConfig, jobs: int | None = None) -> int:
        """Return `jobs`, by default one for every `threads` cores, but one alone on a GPU."""
        cores = 1 if config.device == "cuda" else max(1, usable_cores() // config.threads)
        return jobs or cores

    def load_data(self, data: DataConfig, data_dir: Path) -> str:
        """Load the data while the process starts that workers are forked from; return its fingerprint.

        Raises ValueError also if workers cannot import the script that is running.
        """
        if getattr(multiprocessing.current_process(), "_inheriting", False):  # a worker imports the script
            os._exit(UNGUARDED)
        start_forkserver()
        fingerprint = super().load_data(data, data_dir)
        _check_script()
        return fingerprint

    def execute_all(
        self,
        configs: Iterable[RunConfig],
        store: RunStore,
        data_dir: Path,
        jobs: int | None,
        stop: StopSwitch,
        force: bool = False,
    ) -> Iterator[Outcome]:
        """Train runs, `jobs` at once; yields their outcomes as they come.

        A run whose process is killed is tried once more; the other runs are not affected.
        """
        from pebble import ProcessPool

        configs = list(configs)
        workers = min(self.slots(configs[0], jobs), len(configs))
        start_forkserver()
        with ProcessPool(workers, context=PROCESSES, initializer=_start_worker, initargs=[stop]) as pool:

            def schedule(config: RunConfig) -> Future[Outcome]:
                return pool.schedule(_execute_in_worker, args=[config, store, data_dir, force])

            try:
                yield from _collect(configs, schedule, store, stop)
            except BaseException:
                pool.stop()
                raise


def start_forkserver() -> None:
    """Start the process that workers are forked from: it loads torch while this one does other things.

    It blocks SIGTERM and SIGHUP, as do workers until they can obey them. A scheduler or a closed terminal sends
    one to all processes: without their parent, workers that save their runs would be taken for dead.
    """
    _keep_sockets_short()
    PROCESSES.set_forkserver_preload(PRELOADED)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OBEYED)
    try:
        resource_tracker.ensure_running()  # the forkserver starts it too, which would unblock SIGTERM
        signal.pthread_sigmask(signal.SIG_BLOCK, OBEYED)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _keep_sockets_short() -> None:
    """Let processes meet below /tmp if TMPDIR is so long that a socket cannot be named there (108 bytes)."""
    if len(os.fsencode(tempfile.gettempdir())) > MAX_TMPDIR and os.access("/tmp", os.W_OK):
        before, tempfile.tempdir = tempfile.tempdir, "/tmp"
        try:
            util.get_temp_dir()  # is kept from then on
        finally:
            tempfile.tempdir = before


def _check_script() -> None:
    """Let a process import the script that is running, as workers will. Raise ValueError if it cannot."""
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if script is None or main.__package__ == "analysis":  # a notebook; one of our commands
        return
    if not Path(script).is_file():
        main.__file__ = None  # it came through a pipe; workers do not need it
        return
    probe = PROCESSES.Process(target=keep_going)
    probe.start()
    probe.join()
    if probe.exitcode == UNGUARDED:
        guard = 'put the call below `if __name__ == "__main__":`, or use jobs 1'
        raise ValueError(f"jobs: worker processes import {script}, which would train the study again; {guard}")
    if probe.exitcode:
        raise ValueError(
            f"jobs: worker processes cannot import {script} (exit status {probe.exitcode}); use jobs 1"
        )


def _collect(
    configs: list[RunConfig],
    schedule: Callable[[RunConfig], Future[Outcome]],
    store: RunStore,
    stop: StopSwitch,
) -> Iterator[Outcome]:
    """Schedule each run when it can start, and again if its process was killed; yields outcomes."""
    later, waiting = list(configs), dict[Future[Outcome], tuple[RunConfig, int]]()
    while later or waiting:
        for config in startable(later, [config for config, _ in waiting.values()]):
            later.remove(config)
            waiting[schedule(config)] = (config, 1)
        ended, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in ended:
            config, attempt = waiting.pop(future)
            if (fault := future.exception()) is None:
                yield future.result()
            elif attempt < ATTEMPTS and not stop.is_set():
                waiting[schedule(config)] = (config, attempt + 1)
            else:
                yield _killed(store.run(config), fault, attempt)


def _killed(run: Run, fault: BaseException, attempts: int) -> Outcome:
    code = getattr(fault, "exitcode", None)
    cause = reason_of(fault)
    if code and code < 0:
        cause = f"its process was killed by signal {-code}"
    hint = ", perhaps because memory ran out" if code == -signal.SIGKILL else ""
    return failed(run, f"{cause} ({attempts} attempts){hint}")


_should_stop: Callable[[], bool] = keep_going


def _start_worker(stop: StopSwitch) -> None:
    """Let a worker obey the switch, which a signal to all processes sets as well."""
    global _should_stop  # noqa: PLW0603 — set once, when a worker starts
    study = multiprocessing.parent_process()

    def should_stop() -> bool:
        return stop.is_set() or not (study and study.is_alive())  # if it was killed, nobody waits for its runs

    _should_stop = should_stop

    def handle(signum: int, frame: Any) -> None:
        stop.set()
        if stop.is_at_once():
            os._exit(128 + signum)

    for number in OBEYED:
        if number in stop_signals():
            signal.signal(number, handle)
    warnings.simplefilter("ignore", Unflushed)  # the study has said it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OBEYED)


def _execute_in_worker(config: RunConfig, store: RunStore, data_dir: Path, force: bool) -> Outcome:
    return execute(config, store, data_dir, _should_stop, force)
