"""Train runs with any engine: check, prepare, enter the study, train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from analysis.streams import ProgressStream
from analysis.text import say
from condense_core.config import RunConfig
from condense_core.store import (
    FINISHED,
    Changed,
    Run,
    RunStore,
    changes,
    find_damage,
    find_damages,
    kept_state,
    refuse_changed as refuse_fork,
)
from condense_core.validation import nearest

from . import ray_cluster
from .engine import Engine, known_only_here
from .processes import ProcessEngine, ThisProcess
from .progress import show
from .ranks import is_first_rank, launched_ranks
from .single_run import Outcome, finished_outcome
from .sources import in_order
from .stopping import StopSwitch
from .torchrun import TorchrunEngine

ENGINES = ("processes", "ray")
Value = TypeVar("Value")


@contextmanager
def connect(
    name: str,
    address: str | None = None,
    gpus_per_run: float | None = None,
    *,
    rank_timeout: float = 120,
    in_this_process: bool = False,
) -> Iterator[Engine]:
    """Yield the engine of that name; under `torchrun`, "processes" are its ranks.

    Raises ValueError for bad settings, or if Ray is not installed or its cluster cannot be reached.
    """
    if name not in ENGINES:
        raise ValueError(f"engine {name!r}: {nearest(name, ENGINES)}")
    if name == "ray":
        with ray_cluster.connect(address, gpus_per_run) as engine:
            yield engine
        return
    for setting, value in (("address", address), ("gpus_per_run", gpus_per_run)):
        if value is not None:
            raise ValueError(f"{setting} {value!r}: needs engine 'ray'")
    if in_this_process:
        yield ThisProcess()
    else:
        yield TorchrunEngine(rank_timeout) if launched_ranks() > 1 else ProcessEngine()


@dataclass(frozen=True)
class Launch:
    """Runs on the same data and device, the engine that trains them, and the store that keeps them."""

    engine: Engine
    configs: Sequence[RunConfig]
    store: RunStore
    data_dir: Path
    force: bool = False

    def check(self) -> None:
        """Raise ValueError if the engine cannot train the runs."""
        for config in self.configs:
            if (names := known_only_here(config)) and not isinstance(self.engine, ThisProcess):
                unknown = "only this process knows it; use engine 'processes' and jobs 1"
                raise ValueError(f"{', '.join(names)}: {unknown}")
            self.engine.check(config)

    def split(self, thoroughly: bool = True) -> tuple[list[Outcome], list[RunConfig]]:
        """Return the outcomes of finished runs, and what is left to train.

        Raises ValueError if a run is damaged.
        """
        refuse_damaged(self.configs, self.store, thoroughly)
        return split_finished(self.configs, self.store)

    def refuse_changed(self, data_fingerprint: str | None = None) -> None:
        """Raise Changed, naming every change, if started runs cannot be resumed, unless that is forced.

        A run that cannot be forked is refused in any case.
        """
        if not self.force:
            refuse_changed(self.configs, self.store, data_fingerprint)
        refuse_changed_parents(self.configs, self.store, data_fingerprint)

    @contextmanager
    def prepared(self, enter: Callable[[RunStore], str | None]) -> Iterator[Training]:
        """Check, load the data once, create the store and let `enter` write the study; yield what is left.

        Raises ValueError or OSError before any run starts, if settings, data or store are bad.
        """
        self.check()
        with self.engine.session(self.configs[0].device) as engine:
            yield self.ready(engine, enter)

    def ready(self, engine: Engine, enter: Callable[[RunStore], str | None]) -> Training:
        """Return what is left to train by an engine that is in its session; see `prepared`."""
        finished, left = engine.once(self.split)
        older = engine.once(lambda: found_by_older_name(self.configs, self.store))
        is_needed = left or older
        fingerprint = engine.load_data(self.configs[0].data, self.data_dir) if is_needed else None
        engine.once(lambda: refuse_other_images(older, fingerprint))
        note = engine.once(lambda: self._enter(fingerprint, enter))
        return Training(self, engine, finished, left, note)

    def _enter(self, fingerprint: str | None, enter: Callable[[RunStore], str | None]) -> str | None:
        self.refuse_changed(fingerprint)
        self.store.create()
        return enter(self.store)


@dataclass(frozen=True)
class Training:
    """The runs of a launch that are ready to train, and what entering their study has to say."""

    launch: Launch
    engine: Engine
    finished: list[Outcome]
    left: list[RunConfig]
    note: str | None

    def once(self, act: Callable[[RunStore], Value]) -> Value:
        """Call `act` with the store in the process that keeps it; return its value in every process."""
        return self.engine.once(lambda: act(self.launch.store))

    def then(self, configs: Sequence[RunConfig], enter: Callable[[RunStore], str | None]) -> Training:
        """Prepare further runs for the same engine in the same session; raise as `Launch.prepared` does."""
        launch = replace(self.launch, configs=configs)
        launch.check()
        return launch.ready(self.engine, enter)

    def on_terminal(self, name: str, jobs: int | None) -> list[Outcome]:
        """Train, show the progress on stderr, and stop at Ctrl-C; return the outcome of every run."""
        first = is_first_rank()
        if first and self.note:
            say(self.note, err=True)
        if not self.left:
            return self.finished
        stop, launch, outcomes = StopSwitch(), self.launch, list(self.finished)
        at_once = min(self.engine.slots(self.left[0], jobs), len(self.left))
        shown = show(launch.store, [*launch.configs]) if first else nullcontext(lambda outcome: None)
        if first:
            counted = f"{len(self.left)} of {len(launch.configs)} runs to train"
            say(f"{name}: {counted}, {at_once} at once", err=True)
        with self.engine.stopping(stop), shown as done:
            for outcome in self._outcomes(jobs, stop):
                outcomes.append(outcome)
                done(outcome)
        return outcomes

    def with_bar(self, jobs: int | None, progress: bool) -> list[Outcome]:
        """Train and return the outcome of every run; `progress` shows a bar, a widget in a notebook."""
        from tqdm.auto import tqdm

        if not self.left:
            return self.finished
        outcomes = self._outcomes(jobs, StopSwitch())
        total, out = len(self.left), ProgressStream()
        bar = tqdm(outcomes, "training", total=total, unit="run", file=out, disable=not progress)
        return [*self.finished, *bar]

    def _outcomes(self, jobs: int | None, stop: StopSwitch) -> Iterator[Outcome]:
        launch = self.launch
        left = in_order(self.left)
        return self.engine.execute_all(left, launch.store, launch.data_dir, jobs, stop, launch.force)


def all_finished(outcomes: Sequence[Outcome]) -> bool:
    """Return whether all runs are done or diverged."""
    return all(outcome.state in FINISHED for outcome in outcomes)


def split_finished(configs: Sequence[RunConfig], store: RunStore) -> tuple[list[Outcome], list[RunConfig]]:
    """Return the outcomes of the finished runs, and the configurations that are left to train."""
    known = [(config, finished_outcome(store.run(config))) for config in configs]
    return [outcome for _, outcome in known if outcome], [config for config, outcome in known if not outcome]


def refuse_damaged(configs: Sequence[RunConfig], store: RunStore, thoroughly: bool = True) -> None:
    """Raise ValueError if a started run is damaged; `thoroughly` reads all that reports read of it."""
    names = [store.run(config).name for config in configs]
    if thoroughly:
        faults = list(find_damages(store, names).values())
    else:
        found = (find_damage(store, name, lambda run: (run.record, run.status)) for name in names)
        faults = list(filter(None, found))
    if faults:
        more = f" (and {len(faults) - 1} more runs are damaged)" if faults[1:] else ""
        raise ValueError(f"{faults[0]}; remove the run's folder to train it again{more}")


def refuse_changed(configs: Sequence[RunConfig], store: RunStore, data_fingerprint: str | None) -> None:
    """Raise Changed, naming every change, if started runs cannot be resumed."""
    started = [run for config in configs if (run := store.run(config)).started]
    left = [run for run in started if run.status["state"] not in FINISHED]
    found = {run.name: changes(run.record, data_fingerprint) for run in left}
    if changed := {name: texts for name, texts in found.items() if texts}:
        texts = "; ".join(sorted({text for texts in changed.values() for text in texts}))
        counted = f"{len(changed)} runs were" if len(changed) > 1 else "1 run was"
        raise Changed(
            f"{counted} started with different code, torch or data: {texts}. "
            "Revert the change (even a comment counts) to resume them, or use --force to restart them; "
            f"the old runs are kept ({', '.join(changed)})"
        )


def refuse_changed_parents(configs: Sequence[RunConfig], store: RunStore, data_fingerprint: str | None) -> None:
    """Raise Changed if a run that is to be forked was trained with other code, torch or data.

    Raises FileNotFoundError if it does not keep the state to start from.
    """
    _, left = split_finished(configs, store)
    forks = [
        (config.fork, store.run(config), store.named(config.fork.parent)) for config in left if config.fork
    ]
    for fork, run, parent in forks:
        if parent.status["state"] in FINISHED:
            refuse_fork(parent, data_fingerprint)
            if not run.checkpoints():
                kept_state(parent, fork.stage)


def found_by_older_name(configs: Sequence[RunConfig], store: RunStore) -> list[Run]:
    """Return the runs on a folder that are found by the name of its path, which may now hold other images."""
    return [run for config in configs if (run := store.run(config)).name != config.name]


def refuse_other_images(runs: Sequence[Run], data_fingerprint: str | None) -> None:
    """Raise Changed, naming a run, if one was not trained on the images of this fingerprint."""
    for run in runs:
        if run.record["data_fingerprint"] != data_fingerprint:
            raise Changed(
                f"run {run.name}: was trained on other images than {run.config.data.name!r} holds now; "
                "move its folder out of the store to train it again"
            )
