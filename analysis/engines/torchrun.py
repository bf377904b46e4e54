"""A study under `torchrun`: all ranks train the same run, one run after another; rank 0 keeps the store."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from analysis.cli import is_first_rank, launched_ranks, one_line, signals_to
from analysis.text import say
from condense_core.config import RunConfig
from condense_core.store import Hold, Run, RunStore

from .launch import refuse_changed
from .single_run import Outcome, execute, load_data

if TYPE_CHECKING:
    from analysis.studies import Study
    from condense_core.distributed import Ranks


def suited(settings: dict[str, Any], jobs: int | None, engine: str) -> dict[str, Any]:
    """A study's settings, for ranks. Raises ValueError for what they cannot do."""
    if engine != "processes":
        raise ValueError(f"engine {engine!r}: must be 'processes' under torchrun")
    if jobs is not None and jobs > 1:
        raise ValueError(f"jobs {jobs}: must be 1 under torchrun, where all ranks train the same run")
    if (execution := settings.setdefault("execution", "reference")) == "fast":
        raise ValueError(f"execution {execution!r}: must be 'reference' on {launched_ranks()} ranks")
    return settings


def train(
    study: Study, store: RunStore, data_dir: Path, silence_seconds: float, force: bool = False
) -> list[Outcome]:
    """Train a study's runs and return what became of each: on all ranks the same.

    Raises ValueError or OSError where data, settings or store do not do, before any run starts. Ends the
    process where another rank is lost.
    """
    from condense_core.distributed import from_first_rank, join
    from condense_core.training import check_ranks

    from .progress import show

    configs = [config for _, config in study.run_configs()]
    for config in configs:
        check_ranks(config, launched_ranks())
    with join(study.device, silence_seconds) as ranks, stopping() as should_stop:
        fingerprint = _load_data(study, data_dir, ranks)

        def begin() -> None:
            if not force:
                refuse_changed(configs, store, fingerprint)
            store.create()
            if note := study.enter(store):
                say(note, err=True)

        from_first_rank(begin)
        outcomes = []
        shared = SharedStore(store.root)
        with show(store, configs) if is_first_rank() else nullcontext(lambda outcome: None) as done:
            for config in configs:
                try:
                    outcome = execute(config, shared, data_dir, should_stop, force)
                except Exception as error:
                    _leave(store.run(config), ranks, error)
                outcomes.append(outcome)
                done(outcome)
        return outcomes


def _load_data(study: Study, data_dir: Path, ranks: Ranks) -> str:
    """Load the data on every rank, so that a bad image is named before any run starts; its fingerprint."""
    try:
        dataset = ranks.one_first(lambda: load_data(study.config.data_config, data_dir))
        fault, fingerprint = "", dataset.fingerprint
    except (ValueError, OSError) as error:
        fault, fingerprint = str(error) or type(error).__name__, ""
    faults = ranks.exchange("fault", fault)
    fingerprints = ranks.exchange("data", fingerprint)
    for rank, fault in enumerate(faults):
        if fault:
            raise ValueError(f"rank {rank}: {fault}" if rank else fault)
    for rank, other in enumerate(fingerprints):
        if other != fingerprints[0]:
            raise ValueError(f"data {study.config.data!r}: rank {rank} finds other images than rank 0")
    return fingerprint


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """SIGINT or SIGTERM to any rank: after the same step all of them let the run be saved, and end."""
    from condense_core.distributed import any_rank

    asked = threading.Event()

    def handle(signum: int, frame: Any) -> None:
        if is_first_rank() and not asked.is_set():
            say("Stopping: the run saves its state.", err=True)
        asked.set()

    with signals_to(handle):
        yield lambda: any_rank(asked.is_set())


def _leave(run: Run, ranks: Ranks, error: Exception) -> NoReturn:
    """End this rank, which is out of step with the others: none of them can go on without it."""
    from condense_core.distributed import is_lost_rank

    rank = ranks.shard.rank
    fault = f"{type(error).__name__}: {error}".splitlines()[-1]  # the last one, where a worker's trace is told
    own = f"rank {rank} on {socket.gethostname()}: {fault}"
    if is_lost_rank(error):
        own = "another rank was killed, or was silent for too long"
    reason = ranks.first_fault(own)
    if rank == 0:
        run.set_state("failed", reason)
    say(one_line(f"rank {rank} ends: run {run.name}: {reason}. The same command goes on."), err=True)
    sys.stderr.flush()
    os._exit(1)  # an orderly end would wait for the others


class SharedStore(RunStore):
    """A run store that only rank 0 reads and writes."""

    def run(self, config: RunConfig) -> Run:
        """The run of a configuration, shared by all ranks."""
        return cast(Run, SharedRun(super().run(config)))


class SharedRun:
    """A run of which rank 0 does all that is asked of it; every rank gets its answers and its faults."""

    def __init__(self, run: Run):
        self._run, self.name, self.folder = run, run.name, run.folder

    def __getattr__(self, name: str) -> Any:
        from condense_core.distributed import from_first_rank

        if not callable(getattr(Run, name)):
            return from_first_rank(lambda: getattr(self._run, name))
        return lambda *args, **named: from_first_rank(lambda: getattr(self._run, name)(*args, **named))

    @contextmanager
    def hold(self) -> Iterator[SharedHold]:
        """Rank 0 holds the run for all. Raises RunHeld on all of them."""
        from condense_core.distributed import from_first_rank

        with ExitStack() as held:
            holds: list[Hold] = []
            from_first_rank(lambda: holds.append(held.enter_context(self._run.hold())))
            yield SharedHold(holds)


@dataclass(frozen=True)
class SharedHold:
    """A run that rank 0 holds for all; on other ranks `holds` is empty."""

    holds: list[Hold]

    def check(self) -> None:
        """Raise RunHeld on all ranks where rank 0 has lost the run."""
        from condense_core.distributed import from_first_rank

        from_first_rank(self._check)

    def _check(self) -> None:
        self.holds[0].check()
