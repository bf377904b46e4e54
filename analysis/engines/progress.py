"""Progress of a study, read from the run store: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean
from typing import IO, TYPE_CHECKING, Any, cast

from analysis.streams import ProgressStream, is_terminal
from analysis.text import duration, inert, say
from condense_core.cost import cost_table
from condense_core.store import FINISHED, RunStore

from .pace import Pace

if TYPE_CHECKING:
    from rich.console import RenderableType

    from condense_core.config import RunConfig

    from .single_run import Outcome

REFRESH_SECONDS = 0.5
PLAIN_SECONDS = 30.0
MARKS = {"new": "·", "running": "▸", "stopped": "▪", "done": "✓", "diverged": "∞", "failed": "✗"}
LEGEND = "one mark per seed: " + ", ".join(f"{mark} {state}" for state, mark in MARKS.items())


@dataclass(frozen=True)
class Live:
    """The progress of one training run."""

    name: str
    epoch: int
    epochs: int
    stage: int
    error_percent: float | None
    seconds_left: float | None
    doing: str | None = None  # before the first epoch

    def __str__(self) -> str:
        if self.doing:
            return f"{self.name}  {self.doing}"
        error = "" if self.error_percent is None else f"error {self.error_percent:5.2f} %"
        left = "" if self.seconds_left is None else f"{duration(self.seconds_left)} left"
        return f"{self.name}  epoch {self.epoch}/{self.epochs}  stage {self.stage}  {error}  {left}".rstrip()


class Watch:
    """The states of a study's runs, read from the run store at every look."""

    def __init__(self, store: RunStore, configs: list[RunConfig]):
        self.left = [(config, store.run(config)) for config in configs]
        self.total, self.began = len(configs), time.monotonic()
        self.finished = 0
        self.pace = Pace()
        self.macs = {config.name: cost_table(config.model, 0).macs for config in configs}
        self.before: dict[str, int] = {}  # epochs of each run at the first look
        self.trained: dict[str, int] = {}  # and at the last
        self.grid: dict[str, dict[str, str]] = {}  # state of every run, by variant
        for config in configs:
            self.grid.setdefault(config.model.label, {})[config.name] = "new"

    def look(self) -> tuple[int, list[Live], float | None]:
        """Return the count of finished runs, the running ones, and an estimate of the seconds left."""
        running, waiting = [], []
        for config, run in self.left:
            status = run.status
            state = status["state"]
            self.grid[config.model.label][config.name] = state
            rows = [] if state == "new" else run.epochs()
            timings = run.timings() if rows else []
            self._note(config, len(rows), timings)
            if state in FINISHED or state == "failed":
                self.finished += 1
                continue
            waiting.append((config, run))
            if state == "running":
                running.append(self._live(config, rows, timings, status.get("reason")))
        self.left = waiting
        return self.finished, running, self._estimate()

    def _note(self, config: RunConfig, epochs: int, timings: list[dict]) -> None:
        """Note how many epochs a run has trained, and how long one takes."""
        self.trained[config.name] = epochs
        self.before.setdefault(config.name, epochs)
        if timings:
            seconds = mean(row["seconds"] for row in timings)
            self.pace.seen[config.name] = self.macs[config.name], seconds

    @staticmethod
    def _live(config: RunConfig, rows: list[dict], timings: list[dict], doing: str | None) -> Live:
        last: dict[str, Any] = rows[-1] if rows else {"epoch": 0, "stage": 0, "curve_error_percent": None}
        epochs = config.recipe.epochs
        seconds = sum(row["seconds"] for row in timings)
        left = seconds / len(rows) * (epochs - len(rows)) if rows else None
        return Live(config.name, last["epoch"], epochs, last["stage"], last["curve_error_percent"], left, doing)

    def _estimate(self) -> float | None:
        """Return the seconds that are left: an epoch of a large network counts for several of a small one."""
        weights = {macs: self.pace.of(macs) for macs in set(self.macs.values())}
        done = sum(
            max(0, epochs - self.before[name]) * weights[self.macs[name]]
            for name, epochs in self.trained.items()
        )
        left = sum(
            (config.recipe.epochs - self.trained[config.name]) * weights[self.macs[config.name]]
            for config, _ in self.left
        )
        return (time.monotonic() - self.began) / done * left if done > 0 else None


@contextmanager
def show(store: RunStore, configs: list[RunConfig]) -> Iterator[Callable[[Outcome], None]]:
    """Show the progress of runs on stderr; yields a function to call with each outcome."""
    watch = Watch(store, configs)
    shown = _show_live(watch) if is_terminal() else _show_lines(watch)
    with shown as done:
        yield done


@contextmanager
def _show_live(watch: Watch) -> Iterator[Callable[[Outcome], None]]:
    from rich.columns import Columns
    from rich.console import Console, Group
    from rich.live import Live as LiveDisplay
    from rich.padding import Padding
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    def render() -> RenderableType:
        finished, running, left = watch.look()
        head = f"{finished} of {watch.total} runs" + (f", {duration(left)} left" if left is not None else "")
        lines = [Text(inert(f"  {live}"), no_wrap=True, overflow="ellipsis") for live in running]
        grid = [
            Text(f"{''.join(MARKS.get(state, ' ') for state in runs.values())} {inert(variant)}")
            for variant, runs in watch.grid.items()
        ]
        return Group(
            Text(head, style="bold"),
            Padding(ProgressBar(watch.total, finished), (0, 0), expand=True),
            *lines,
            Columns(grid, padding=(0, 3)),
            Text(LEGEND, style="dim"),
        )

    console = Console(file=cast(IO[str], ProgressStream()))
    rate = 1 / REFRESH_SECONDS
    with LiveDisplay(get_renderable=render, console=console, refresh_per_second=rate, transient=True):
        yield lambda outcome: None


@contextmanager
def _show_lines(watch: Watch) -> Iterator[Callable[[Outcome], None]]:
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(PLAIN_SECONDS):
            finished, running, left = watch.look()
            rest = f", {duration(left)} left" if left is not None else ""
            say(f"{finished} of {watch.total} runs{rest}", err=True)
            for live in running:
                say(f"  {live}", err=True)

    def done(outcome: Outcome) -> None:
        if outcome.state != "stopped":  # most of those never started
            say(f"{outcome.state}: {outcome.run}", err=True)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        thread.join()


@contextmanager
def decoding() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal while a folder is decoded; yields its update function."""
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(file=cast(IO[str], ProgressStream())), transient=True)
    task = bar.add_task("decoding images")

    def update(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield update if is_terminal() else lambda done, total: None
    finally:
        if bar.live.is_started:
            bar.stop()
