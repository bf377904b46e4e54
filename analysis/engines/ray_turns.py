"""The attempts that runs take on a Ray cluster, until each has an outcome."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from condense_core.config import RunConfig
from condense_core.store import RunStore

from .processes import ATTEMPTS
from .reasons import reason_of
from .single_run import Outcome, execute, failed
from .sources import startable
from .stopping import StopSwitch

if TYPE_CHECKING:
    from ray import ObjectRef

TICK_SECONDS = 0.5
RETRY_SECONDS = 5.0
HELD_SECONDS = 180.0  # how long a dead node's lock may look alive: its lease lasts a minute or two


@dataclass(frozen=True)
class Turn:
    """A run's next attempt.

    `deaths`: how often in a row it died at `epochs`; `held_since`: when it was first found held; `earliest`:
    when to start it.
    """

    config: RunConfig
    deaths: int = 0
    epochs: int = 0
    held_since: float | None = None
    earliest: float = 0.0

    def after_death(self, epochs: int) -> Turn:
        """Return the attempt after one whose process died; progress since the last death resets the count."""
        return replace(self, deaths=1 if epochs > self.epochs else self.deaths + 1, epochs=epochs)

    @property
    def may_wait(self) -> bool:
        """Whether the run may be held by a process of a dead node, whose lock will expire."""
        return self.held_since is None or time.monotonic() - self.held_since < HELD_SECONDS

    def after_held(self) -> Turn:
        """Return the attempt after one that found the run held."""
        now = time.monotonic()
        return replace(self, held_since=self.held_since or now, earliest=now + RETRY_SECONDS)


@dataclass(frozen=True)
class Turns:
    """How runs are attempted: their resources, the store, at most `jobs` at once, until a stop."""

    needs: Callable[[RunConfig], tuple[int, float]]
    store: RunStore
    data_dir: Path
    jobs: int | None
    stop: StopSwitch
    force: bool

    def execute(self, configs: Iterable[RunConfig]) -> Iterator[Outcome]:
        """Attempt every run until it has an outcome; yields outcomes as they come."""
        waiting: list[Turn] = []
        for config in configs:
            match self._first_turn(config):
                case Outcome() as outcome:
                    yield outcome
                case Turn() as turn:
                    waiting.append(turn)
        yield from self._take(waiting)

    def _first_turn(self, config: RunConfig) -> Outcome | Turn:
        """Return the outcome of a finished run, else its first attempt."""
        outcome = self._outcome_untrained(config)
        if outcome.state != "stopped":
            return outcome
        try:
            self.store.run(config).folder.mkdir(exist_ok=True)  # a node that does not see it has another store
        except OSError as error:
            return failed(self.store.run(config), str(error))
        return Turn(config)

    def _outcome_untrained(self, config: RunConfig) -> Outcome:
        """Return the outcome of a run that is not to be trained now."""
        return execute(config, self.store, self.data_dir, should_stop=lambda: True)

    def _take(self, waiting: list[Turn]) -> Iterator[Outcome]:
        """Start attempts, at most `jobs` at once, until all have an outcome; a stop cancels them."""
        import ray

        running: dict[ObjectRef, Turn] = {}
        cancelled = False
        while waiting or running:
            if self.stop.is_set():
                if not cancelled:
                    for ref in running:
                        ray.cancel(ref)
                cancelled = True
                yield from (self._outcome_untrained(turn.config) for turn in waiting)
                waiting.clear()
            for turn in self._ready(waiting, [*running.values()]):
                waiting.remove(turn)
                running[self._start(turn)] = turn
            if not running:
                time.sleep(TICK_SECONDS)
                continue
            ended, _ = ray.wait(list(running), timeout=TICK_SECONDS)
            for ref in ended:
                match self._after(running.pop(ref), ref):
                    case Outcome() as outcome:
                        yield outcome
                    case Turn() as turn:
                        waiting.append(turn)

    def _ready(self, waiting: list[Turn], running: list[Turn]) -> list[Turn]:
        can_start = startable([turn.config for turn in waiting], [turn.config for turn in running])
        now = time.monotonic()
        ready = [turn for turn in waiting if turn.config in can_start and turn.earliest <= now]
        return ready if self.jobs is None else ready[: self.jobs - len(running)]

    def _start(self, turn: Turn) -> ObjectRef:
        import ray

        cpus, gpus = self.needs(turn.config)
        task = ray.remote(max_retries=0)(_execute_on_node)  # Ray does not know how much progress a run had made
        sized = task.options(num_cpus=cpus, num_gpus=gpus, name=turn.config.name)
        return sized.remote(turn.config, self.store, self.data_dir, Path.cwd(), self.force)

    def _after(self, turn: Turn, ref: ObjectRef) -> Outcome | Turn:
        """Return the outcome of an attempt that ended, or the next attempt."""
        import ray
        from ray import exceptions

        run, stopped = self.store.run(turn.config), self.stop.is_set()
        try:
            outcome = ray.get(ref)
        except exceptions.TaskCancelledError:
            return self._outcome_untrained(turn.config)
        except (
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.OutOfMemoryError,
        ) as fault:
            if stopped:  # a scheduler's signal may reach the nodes as well
                return Outcome(run.name, "stopped", _described(fault))
            again = turn.after_death(len(run.epochs()))
            if again.deaths < ATTEMPTS:
                return again
            return failed(run, f"{_described(fault)} ({again.deaths} attempts)")
        except exceptions.RayError as fault:
            cause = getattr(fault, "cause", None)
            return failed(run, reason_of(cause) if isinstance(cause, Exception) else _described(fault))
        return turn.after_held() if outcome.state == "held" and turn.may_wait and not stopped else outcome


def first_sentence(fault: BaseException) -> str:
    """Return the first sentence of an error message, without the advice that Ray adds."""
    return " ".join(str(fault).split()).partition(". ")[0].removesuffix(".")


def _described(fault: BaseException) -> str:
    return f"{type(fault).__name__}: {first_sentence(fault)}"


def _execute_on_node(config: RunConfig, store: RunStore, data_dir: Path, folder: Path, force: bool) -> Outcome:
    """Train a run on a node; relative paths start in `folder`, the driver's."""
    import ray

    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # cancelling also sets a flag, with which the run saves its state
    if not store.run(config).folder.is_dir():
        raise FileNotFoundError(
            f"runs {str(store.root)!r}: not seen from {socket.gethostname()}; runs and data must be on a file "
            "system that all nodes share"
        )
    if folder.is_dir():
        os.chdir(folder)
    return execute(config, store, data_dir, ray.get_runtime_context().is_canceled, force)
