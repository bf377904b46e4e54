"""The engine protocol: the methods by which `launch` has runs trained, wherever they train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from condense_core.config import DataConfig, RunConfig
from condense_core.store import RunStore
from condense_core.tables import CRITERIA, DATASETS, GROUPINGS

from .devices import gpu_is_here
from .progress import decoding
from .single_run import Outcome, quietly
from .stopping import StopSwitch, stopping

Value = TypeVar("Value")


class Engine(Protocol):
    """Something that trains runs. The defaults are those of an engine that one process controls."""

    def slots(self, config: RunConfig, jobs: int | None = None) -> int:
        """Return how many runs like this one train at once, if `jobs` (None: as many as fit) are asked for."""
        ...

    def execute_all(
        self,
        configs: Iterable[RunConfig],
        store: RunStore,
        data_dir: Path,
        jobs: int | None,
        stop: StopSwitch,
        force: bool = False,
    ) -> Iterator[Outcome]:
        """Train runs, at most `jobs` at once; yields their outcomes as they come.

        A run comes after those that it needs, and must not start before they have ended.
        """
        ...

    def has_gpu(self) -> bool:
        """Return whether runs can train on a GPU."""
        return gpu_is_here()

    def check(self, config: RunConfig) -> None:
        """Raise ValueError if a run of this configuration cannot be trained."""
        return

    @contextmanager
    def session(self, device: str) -> Iterator[Engine]:
        """Yield this engine, ready to train on `device`."""
        yield self

    def once(self, act: Callable[[], Value]) -> Value:
        """Call `act` in the process that keeps the store; return its value in every process."""
        return act()

    def load_data(self, data: DataConfig, data_dir: Path) -> str:
        """Load the data, so that a bad image is named before any run starts; return its fingerprint."""
        from condense_core.data import load

        with quietly(), decoding() as progress:
            return load(data, data_dir, progress).fingerprint

    def stopping(self, stop: StopSwitch) -> AbstractContextManager[None]:
        """Let the signals that stop a study set the switch meanwhile."""
        return stopping(stop)


def known_only_here(config: RunConfig) -> list[str]:
    """Return the names that a run uses and that only this process knows (`Table.add`)."""
    model, recipe, data = config.model, config.recipe, config.data
    used = ((GROUPINGS, model.grouping), (CRITERIA, recipe.criterion), (DATASETS, data.kind))
    return [f"{table.kind} {name!r}" for table, name in used if name not in table.built_in]
