"""A study on the machines of a Ray cluster: a task a run, on whichever node has room for it.

The run store is the only state: it and the data have to be on a file system that all nodes share, under the
same path. A driver that is killed and started again finds there what is done; a run whose node died goes on
elsewhere from its checkpoints.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from condense_core.config import RunConfig
from condense_core.store import RunStore
from condense_core.validation import nearest

from .processes import ATTEMPTS
from .single_run import Outcome, execute, failed

if TYPE_CHECKING:
    from ray import ObjectRef

    from .processes import StopSwitch

ENGINES = ("processes", "ray")
TICK_SECONDS = 0.5
HELD_SECONDS = (
    180.0  # that the lock of a node which is only presumed dead may stay: leases last a minute or two
)
RETRY_SECONDS = 5.0


@contextmanager
def chosen(
    engine: str, address: str | None = None, gpus_per_run: float | None = None
) -> Iterator[Cluster | None]:
    """The cluster to train on, while it lasts; None where runs are processes of this machine.

    Raises ValueError for bad settings, and where Ray is not installed or the cluster cannot be reached.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r}: {nearest(engine, ENGINES)}")
    if engine == "processes":
        for name, value in (("address", address), ("gpus_per_run", gpus_per_run)):
            if value is not None:
                raise ValueError(f"{name} {value!r}: needs engine 'ray'")
        yield None
        return
    if gpus_per_run is not None and not 0 < gpus_per_run <= 1:
        raise ValueError(f"gpus_per_run {gpus_per_run:g}: must be above 0 and at most 1, a run trains on one")
    with _connected(address) as nodes:
        yield Cluster(nodes, gpus_per_run)


@contextmanager
def _connected(address: str | None) -> Iterator[tuple[dict[str, float], ...]]:
    """Connect to a cluster, or start one on this machine; yields what each of its nodes has."""
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "engine 'ray': needs ray, which is not installed: pip install 'condense[cluster]'"
        ) from error
    there = ray.is_initialized() and address is None  # a notebook's own
    if not there:
        _knock(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            where = "local" if address is None else address
            ray.init(where, log_to_driver=False, logging_level=logging.ERROR)
        except (ValueError, OSError, RuntimeError, SystemExit) as error:  # it exits after trying for minutes
            why = "cannot be reached" if isinstance(error, SystemExit) else _first_sentence(error)
            raise ValueError(f"address {where!r}: {why}; valid: HOST:PORT of a cluster, or auto") from error
    try:
        yield tuple(node["Resources"] for node in ray.nodes() if node["Alive"])
    finally:
        if not there:
            ray.shutdown()


def _knock(address: str | None) -> None:
    """Raise ValueError where nobody listens, which Ray would be minutes to find out."""
    host, _, port = (address or "").rpartition(":")
    if not port.isdigit() or "://" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"address {address!r}: cannot be reached ({error})") from error


@dataclass(frozen=True)
class Turn:
    """A run's next attempt: how often in a row it died at `epochs`, since when it is held, when to begin."""

    config: RunConfig
    deaths: int = 0
    epochs: int = 0
    held_since: float | None = None
    earliest: float = 0.0

    def after_death(self, epochs: int) -> Turn:
        """The attempt after one whose process died; where it had come further, the count begins anew."""
        return replace(self, deaths=1 if epochs > self.epochs else self.deaths + 1, epochs=epochs)

    @property
    def may_wait(self) -> bool:
        """Whether who holds the run may be a process of a dead node, whose lock will pass."""
        return self.held_since is None or time.monotonic() - self.held_since < HELD_SECONDS

    def after_held(self) -> Turn:
        """The attempt after one that found the run held."""
        now = time.monotonic()
        return replace(self, held_since=self.held_since or now, earliest=now + RETRY_SECONDS)


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that this process is connected to: what its nodes have, and a run's share of a GPU."""

    nodes: tuple[dict[str, float], ...]
    gpus_per_run: float | None = None

    def has_gpu(self) -> bool:
        """Whether any node has a GPU."""
        return any(node.get("GPU", 0) for node in self.nodes)

    def _needs(self, config: RunConfig) -> tuple[int, float]:
        """CPUs and GPUs of a run."""
        return config.threads, (self.gpus_per_run or 1.0) if config.device == "cuda" else 0.0

    def check(self, config: RunConfig) -> None:
        """Raise ValueError where no node has what a run needs, so that it would wait for ever."""
        if self.gpus_per_run is not None and config.device != "cuda":
            raise ValueError(f"gpus_per_run {self.gpus_per_run:g}: needs device 'cuda'")
        cpus, gpus = self._needs(config)
        most = max((node.get("CPU", 0) for node in self.nodes), default=0)
        if cpus > most:
            raise ValueError(
                f"threads {cpus}: no node of the cluster has as many CPUs; valid: at most {most:g}"
            )
        if not self.slots(config):
            raise ValueError(f"gpus_per_run {gpus:g}: no node with {cpus} CPUs has as much of a GPU")

    def slots(self, config: RunConfig) -> int:
        """How many runs like this one the nodes carry at once."""
        cpus, gpus = self._needs(config)
        by_node = (
            min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else sys.maxsize)
            for node in self.nodes
        )
        return int(sum(by_node))

    def execute_all(
        self,
        configs: Iterable[RunConfig],
        store: RunStore,
        data_dir: Path,
        jobs: int | None,
        stop: StopSwitch,
        force: bool = False,
    ) -> Iterator[Outcome]:
        """Train runs on the nodes, at most `jobs` at once; yields outcomes as they come.

        A run whose worker or node dies is tried once more, and again whenever it had come further since.
        """
        import ray

        store, data_dir = RunStore(store.root.absolute()), data_dir.absolute()
        task = ray.remote(max_retries=0)(_execute_on_node)  # Ray does not know how far a run had come
        todo: list[Turn] = []
        for config in configs:
            match _first_turn(config, store, data_dir):
                case Outcome() as outcome:
                    yield outcome
                case Turn() as turn:
                    todo.append(turn)

        def start(turn: Turn) -> ObjectRef:
            cpus, gpus = self._needs(turn.config)
            sized = task.options(num_cpus=cpus, num_gpus=gpus, name=turn.config.name)
            return sized.remote(turn.config, store, data_dir, Path.cwd(), force)

        with redirect_stdout(sys.stderr):  # where Ray tells of nodes that die
            yield from _take_turns(todo, start, store, data_dir, jobs, stop)


def _as_stored(config: RunConfig, store: RunStore, data_dir: Path) -> Outcome:
    """What became of a run that is not to be trained now."""
    return execute(config, store, data_dir, should_stop=lambda: True)


def _first_turn(config: RunConfig, store: RunStore, data_dir: Path) -> Outcome | Turn:
    """What became of a run that is at its end; else its first attempt."""
    outcome = _as_stored(config, store, data_dir)
    if outcome.state != "stopped":
        return outcome
    try:
        store.run(config).folder.mkdir(exist_ok=True)  # a node that does not see it does not share the store
    except OSError as error:
        return failed(store.run(config), str(error))
    return Turn(config)


def _take_turns(
    todo: list[Turn],
    start: Callable[[Turn], ObjectRef],
    store: RunStore,
    data_dir: Path,
    jobs: int | None,
    stop: StopSwitch,
) -> Iterator[Outcome]:
    """Start attempts, at most `jobs` at once, until all have an outcome; a stop cancels them."""
    import ray

    running: dict[ObjectRef, Turn] = {}
    cancelled = False
    while todo or running:
        if stop.event.is_set() and not cancelled:
            for ref in running:
                ray.cancel(ref)
            cancelled = True
        if cancelled:
            yield from (_as_stored(turn.config, store, data_dir) for turn in todo)
            todo.clear()
        ready = [turn for turn in todo if turn.earliest <= time.monotonic()]
        for turn in ready[: None if jobs is None else jobs - len(running)]:
            todo.remove(turn)
            running[start(turn)] = turn
        if not running:
            time.sleep(TICK_SECONDS)
            continue
        ended, _ = ray.wait(list(running), timeout=TICK_SECONDS)
        for ref in ended:
            match _ended(ref, running.pop(ref), store, data_dir, stop):
                case Outcome() as outcome:
                    yield outcome
                case Turn() as again:
                    todo.append(again)


def _ended(ref: ObjectRef, turn: Turn, store: RunStore, data_dir: Path, stop: StopSwitch) -> Outcome | Turn:
    """What became of a run, or its next attempt."""
    import ray
    from ray.exceptions import (
        NodeDiedError,
        OutOfMemoryError,
        RayError,
        TaskCancelledError,
        WorkerCrashedError,
    )

    run, goes_on = store.run(turn.config), not stop.event.is_set()
    try:
        outcome = ray.get(ref)
    except TaskCancelledError:
        return _as_stored(turn.config, store, data_dir)
    except (WorkerCrashedError, NodeDiedError, OutOfMemoryError) as fault:
        if not goes_on:  # a scheduler's signal may reach the nodes as well
            return Outcome(run.name, "stopped", _told(fault))
        again = turn.after_death(len(run.epochs()))
        if again.deaths < ATTEMPTS:
            return again
        return failed(run, f"{_told(fault)} ({again.deaths} attempts)")
    except RayError as fault:
        return failed(run, _told(getattr(fault, "cause", fault)))
    return turn.after_held() if outcome.state == "held" and turn.may_wait and goes_on else outcome


def _told(fault: BaseException) -> str:
    return f"{type(fault).__name__}: {_first_sentence(fault)}"


def _first_sentence(fault: BaseException) -> str:
    """What a fault says, without the advice that Ray adds."""
    return " ".join(str(fault).split()).partition(". ")[0].removesuffix(".")


def _execute_on_node(config: RunConfig, store: RunStore, data_dir: Path, folder: Path, force: bool) -> Outcome:
    """Train a run where Ray put it; `folder` is the driver's, from which relative paths start."""
    import ray

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # cancelling sets a flag as well, which lets the run be saved
    if not store.run(config).folder.is_dir():
        raise FileNotFoundError(
            f"runs {str(store.root)!r}: not seen from {socket.gethostname()}; runs and data must be on a file "
            "system that all nodes share"
        )
    if folder.is_dir():
        os.chdir(folder)
    return execute(config, store, data_dir, ray.get_runtime_context().is_canceled, force)
