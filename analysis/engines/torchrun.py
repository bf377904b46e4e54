"""The engine of `torchrun`: all ranks train the same run, one run after another; rank 0 keeps the store."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from analysis.text import one_line, say
from condense_core.config import DataConfig, RunConfig
from condense_core.store import Run, RunStore, RunWriter, record_failure

from .engine import Engine
from .ranks import is_first_rank, launched_ranks
from .reasons import reason_of
from .single_run import Outcome, execute, load_data
from .stopping import StopSwitch, signals_to

if TYPE_CHECKING:
    from condense_core.distributed import Ranks

Value = TypeVar("Value")


def settings_for_ranks(settings: dict[str, Any], jobs: int | None, engine: str) -> dict[str, Any]:
    """Return a study's settings, under torchrun those for ranks. Raises ValueError for what ranks cannot do."""
    if launched_ranks() == 1:
        return settings
    if engine != "processes":
        raise ValueError(f"engine {engine!r}: must be 'processes' under torchrun")
    if jobs is not None and jobs > 1:
        raise ValueError(f"jobs {jobs}: must be 1 under torchrun, because all ranks train the same run")
    if (execution := settings.get("execution", "reference")) == "fast":
        raise ValueError(f"execution {execution!r}: must be 'reference' on {launched_ranks()} ranks")
    if budget := settings.get("budget"):
        raise ValueError(f"budget {budget!r}: must be left out under torchrun; use processes or ray")
    return settings | {"execution": execution}


@dataclass(frozen=True)
class TorchrunEngine(Engine):
    """Trains one run after another on all ranks; a rank that is silent for too long is lost."""

    silence_seconds: float
    joined: Ranks | None = None

    def slots(self, config: RunConfig, jobs: int | None = None) -> int:
        """Return 1."""
        return 1

    def check(self, config: RunConfig) -> None:
        """Raise ValueError if the ranks cannot train a run of this configuration."""
        from condense_core.distributed import check_ranks

        check_ranks(config, launched_ranks())

    @contextmanager
    def session(self, device: str) -> Iterator[TorchrunEngine]:
        """Yield this engine after all ranks have joined."""
        from condense_core.distributed import join

        with join(device, self.silence_seconds) as ranks:
            yield replace(self, joined=ranks)

    @property
    def ranks(self) -> Ranks:
        """The ranks that have joined."""
        if self.joined is None:
            raise RuntimeError("the ranks have not joined: use the engine that session() yields")
        return self.joined

    def once(self, act: Callable[[], Value]) -> Value:
        """Call `act` on rank 0; return its value, or raise its error, on all ranks."""
        from condense_core.distributed import from_first_rank

        return from_first_rank(act)

    def load_data(self, data: DataConfig, data_dir: Path) -> str:
        """Load the data on every rank, and return its fingerprint.

        Raises ValueError if a rank cannot load it, or has other images than rank 0.
        """
        try:
            dataset = self.ranks.one_first(lambda: load_data(data, data_dir))
            fault, fingerprint = "", dataset.fingerprint
        except (ValueError, OSError) as error:
            fault, fingerprint = str(error) or type(error).__name__, ""
        faults = self.ranks.exchange("fault", fault)
        fingerprints = self.ranks.exchange("data", fingerprint)
        for rank, fault in enumerate(faults):
            if fault:
                raise ValueError(f"rank {rank}: {fault}" if rank else fault)
        for rank, other in enumerate(fingerprints):
            if other != fingerprints[0]:
                raise ValueError(f"data {data.name!r}: rank {rank} finds other images than rank 0")
        return fingerprint

    @contextmanager
    def stopping(self, stop: StopSwitch) -> Iterator[None]:
        """Let a stop signal to any rank stop all of them after the same step.

        A second signal does nothing more: torchrun passes on what a terminal has already sent to every rank.
        """

        def handle(signum: int, frame: Any) -> None:
            if is_first_rank() and not stop.is_set():
                say("Stopping: the run saves its state.", err=True)
            stop.set()

        with signals_to(handle):
            yield

    def execute_all(
        self,
        configs: Iterable[RunConfig],
        store: RunStore,
        data_dir: Path,
        jobs: int | None,
        stop: StopSwitch,
        force: bool = False,
    ) -> Iterator[Outcome]:
        """Train runs one after another; yields their outcomes, the same on all ranks.

        Ends the process if another rank is lost.
        """
        from condense_core.distributed import any_rank

        shared = SharedStore(store.root)
        for config in configs:
            try:
                outcome = execute(config, shared, data_dir, lambda: any_rank(stop.is_set()), force)
            except Exception as error:
                _leave(store.run(config), self.ranks, error)
            yield outcome


def _leave(run: Run, ranks: Ranks, error: Exception) -> NoReturn:
    """End this rank, which is out of step with the others: none of them can continue without it."""
    from condense_core.distributed import is_lost_rank

    rank = ranks.shard.rank
    own = f"rank {rank} on {socket.gethostname()}: {reason_of(error)}"
    if is_lost_rank(error):
        own = "another rank was killed, or was silent for too long"
    reason = ranks.first_fault(own)
    if rank == 0:
        record_failure(run, reason)
    say(one_line(f"rank {rank} ends: run {run.name}: {reason}. The same command resumes it."), err=True)
    os._exit(1)  # an orderly end would wait for the others


class SharedStore(RunStore):
    """A run store that only rank 0 reads and writes."""

    def run(self, config: RunConfig) -> Run:
        """Return the run of a configuration, shared by all ranks."""
        from condense_core.distributed import from_first_rank

        name = from_first_rank(lambda: RunStore.run(self, config).name)
        return cast(Run, SharedRun(self.named(name)))

    def source_of(self, config: RunConfig) -> Run | None:
        """Return the run whose masks or whose state a run starts from, shared by all ranks."""
        source = RunStore.source_of(self, config)
        return source and cast(Run, SharedRun(source))


class Shared:
    """An object that rank 0 has for all; the others get its answers and its faults.

    `own` is a list, which is filled on rank 0 alone.
    """

    def __init__(self, kind: type, own: list[Any]):
        self._kind, self._own = kind, own

    def __getattr__(self, name: str) -> Any:
        from condense_core.distributed import from_first_rank

        if not callable(getattr(self._kind, name)):
            return from_first_rank(lambda: getattr(self._own[0], name))
        return lambda *args, **named: from_first_rank(lambda: getattr(self._own[0], name)(*args, **named))


class SharedRun(Shared):
    """A run that only rank 0 reads and holds."""

    def __init__(self, run: Run):
        super().__init__(Run, [run])
        self.name, self.folder = run.name, run.folder

    @contextmanager
    def hold(self) -> Iterator[RunWriter]:
        """Let rank 0 hold the run for all, and write it. Raises RunHeld on all ranks."""
        from condense_core.distributed import from_first_rank

        with ExitStack() as held:
            writers: list[RunWriter] = []
            from_first_rank(lambda: writers.append(held.enter_context(self._own[0].hold())))
            yield cast(RunWriter, Shared(RunWriter, writers))
