"""Explore a run store in a notebook: choose a run, a stage and a layer, and see them at once.

The panels are `quick_figures`, because a change may take 0.3 s; `Explorer.figures` returns the figures of
`plots` that show the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread, main_thread
from typing import Any

import ipywidgets as widgets
import pandas as pd
from matplotlib.figure import Figure

from analysis import frames, plots
from analysis.frames import reading_layers
from analysis.plots import stage_title
from condense_core.store import Run, RunStore, TrackedConfig

from .contents import ALL_RUNS, Runs, known_of, mark, runs_of, stamp
from .panels import PANELS, as_of, draw_costs_of, draw_panel, moments_of, note, stages_of

POLL_SECONDS = 2.0
CHOICES = ("study", "variant", "seed", "stage", "layer", "group", "epoch")
NO_EPOCH = {-1.0: "–"}
UNREADABLE = (OSError, ValueError, KeyError)  # a file is damaged, or is just being replaced


def explore(runs: str | Path = "runs") -> Explorer:
    """Return widgets that explore a run store, also while its runs are being trained.

    Raise FileNotFoundError if there is no run store.
    """
    frames.runs_in(runs)
    return Explorer(RunStore(Path(runs)))


class Explorer(widgets.VBox):
    """Choose by `study`, `variant`, `seed`, `stage`, `layer`, `group`, `epoch`; `about` and `panels` show it.

    A choice stays while others change; if it becomes impossible, it comes back as soon as it is possible. Until
    a stage is chosen, the newest one is shown. With `follow` checked, news in the store appear until `close`.
    """

    def __init__(self, store: RunStore):
        super().__init__()
        self.store = store
        self.run: Run | None = None
        self._runs: Runs = {}
        self._ahead: tuple[Run, ...] = ()
        self._seen: Any = None
        self._wishes: dict[str, Any] = {}
        self._open, self._offering = True, False
        self._place_widgets()
        if studies := self._study_marks():
            self._wishes["study"] = max(studies, key=lambda name: studies[name])  # the latest one
        self.update()
        self._watching = self._watch()

    def _place_widgets(self) -> None:
        self.choices = {name: _slider(name) if name == "epoch" else _dropdown(name) for name in CHOICES}
        self.study, self.variant, self.seed, self.stage, self.layer, self.group, self.epoch = (
            self.choices.values()
        )
        self.follow = widgets.Checkbox(True, description="follow", indent=False, layout=_fitting())
        self.about = widgets.HTML()
        self.panels = {name: widgets.HTML(layout=widgets.Layout(margin="6px 0 0")) for name in PANELS}
        for choice in self.choices.values():
            choice.observe(self._choose, "value")
        row = widgets.Layout(flex_flow="row wrap", align_items="center")
        grid = widgets.Layout(grid_template_columns="minmax(280px, 2fr) minmax(380px, 3fr)", grid_gap="0 24px")
        connections, costs, *wide = self.panels.values()
        controls = widgets.HBox([*self.choices.values(), self.follow], layout=row)
        self.children = [controls, self.about, widgets.GridBox([connections, costs], layout=grid), *wide]

    def _choose(self, change: Any) -> None:
        if not self._offering:
            self._wishes[change.owner.description] = change.new
            self.update()

    def update(self) -> None:
        """Offer what the store contains now, keep choices that are still possible, and draw the changes."""
        studies, self._runs, self.run = self._study_marks(), {}, None
        try:
            with self._quietly():
                self._offer_all(list(studies))
            self._seen = studies, self._run_marks()
            self.about.value = _about(self.store, self._runs, self.run)
        except UNREADABLE as error:
            self._seen, self.run = None, None
            self.about.value = note(f"{self.study.value or self.store.root}: cannot be read: {error!r}")
        self._draw()
        self._look_ahead()

    def _offer_all(self, studies: list[str]) -> None:
        """Offer studies, variants and seeds, and the stages and layers of the chosen run."""
        self._offer("study", {name: name for name in studies} | {ALL_RUNS: "all runs"})
        self._runs = runs_of(self.store, self.study.value)
        self._offer("variant", {name: name for name in self._runs})
        seeds = self._runs.get(self.variant.value, {})
        self._offer("seed", {seed: _seed_label(seed, run) for seed, run in seeds.items()})
        self.run = seeds.get(self.seed.value)
        self._offer("stage", {stage: stage_title(stage) for stage in stages_of(self.run)}, newest=True)
        self._offer("layer", {label: label for label in _layers(self.run)}, newest=True)
        self._offer("group", {group: str(group) for group in range(_groups(self.run, self.layer.value))})
        self._offer("epoch", _epochs(self.run), newest=True)

    def _offer(self, name: str, labels: dict[Any, str], newest: bool = False) -> None:
        """Give a choice its values and labels: it keeps the user's wish, or takes an end of the values."""
        choice, values, wish = self.choices[name], list(labels), self._wishes.get(name)
        default = values[-1 if newest else 0] if values else None
        options = tuple((label, value) for value, label in labels.items())
        if options != choice.options:
            choice.options = options
        choice.value = wish if wish in values else default

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Do not take changes in the block for choices of the user."""
        self._offering = True
        try:
            yield
        finally:
            self._offering = False

    def _draw(self) -> None:
        for name, panel in self.panels.items():
            panel.value = self._picture(name, self.run) if self.run else ""

    def _picture(self, name: str, run: Run) -> str:
        chosen = [self.choices[choice].value for choice in PANELS[name].follows]
        try:
            return draw_panel(name, run, mark(run), *chosen)
        except UNREADABLE as error:
            self._seen = None  # look again, even if the file does not change
            return note(f"{PANELS[name].title}: cannot be read: {error!r}")

    def figures(self) -> dict[str, Figure]:
        """Return what the panels show as figures of `plots`, in some seconds; empty if there is no stage."""
        run, stage, layer = self.run, self.stage.value, self.layer.value
        if run is None or stage is None:
            return {}
        found = {
            "costs": plots.cost_by_layer(_up_to(frames.layers(run), stage)),
            "curves": plots.run_life(frames.epochs(run), frames.stages(run)),
        }
        connections, channels = frames.connections(run), frames.channels(run, layer)
        if len(connections):
            channels = channels.assign(died=as_of(channels.died.to_numpy(), stage))
            found["connections"] = plots.pruned_connections(connections[connections.stage == stage])
            found["mask"] = plots.layer_connections(channels)
            ranks = frames.ranks(run, layer)
            found["ranks"] = plots.ranks(
                ranks[(ranks.group == self.group.value) & (ranks.epoch <= self.epoch.value)]
            )
        return found

    def poll(self) -> bool:
        """Look at the store once and show what is new; return whether anything was."""
        if self._seen == (self._study_marks(), self._run_marks()):
            return False
        self.update()
        return True

    def _study_marks(self) -> dict[str, tuple[int, int]]:
        return {path.stem: stamp(path) for path in self.store.study_files()}

    def _run_marks(self) -> Any:
        """Return a value that changes with a run of the shown variant or, if all are shown, with a new run."""
        started = self.store.runs() if self.study.value == ALL_RUNS else None
        return started, [mark(run) for run in self._runs.get(self.variant.value, {}).values()]

    def _watch(self) -> asyncio.Task[None] | None:
        """Start a task that follows the store; None outside of a notebook, where nothing would run it."""
        try:
            return asyncio.get_running_loop().create_task(self._follow())
        except RuntimeError:
            return None

    async def _follow(self) -> None:
        while self._open:
            await asyncio.sleep(POLL_SECONDS)
            if self.follow.value:
                self.poll()

    def _look_ahead(self) -> None:
        """Draw the costs of the other variants in a thread: counting them takes longer than a change may."""
        ahead = tuple(run for seeds in self._runs.values() for run in list(seeds.values())[:1] if run.started)
        if ahead != self._ahead:
            self._ahead = ahead
            Thread(target=self._draw_ahead, args=(ahead,)).start()

    def _draw_ahead(self, runs: tuple[Run, ...]) -> None:
        with suppress(*UNREADABLE):  # reported when the run is chosen
            for model in (known_of(run).network for run in runs):
                if isinstance(model, TrackedConfig):
                    continue  # its costs were written by the run
                if self._open and self._ahead is runs and main_thread().is_alive():
                    draw_costs_of(model, (*map(str, range(model.last_stage + 1)), "end"))

    def close(self) -> None:
        """Remove the widgets, and stop following the store."""
        self._open = False
        if watching := getattr(self, "_watching", None):
            watching.cancel()
        super().close()


def _fitting() -> widgets.Layout:
    return widgets.Layout(width="max-content")


def _dropdown(name: str) -> widgets.Dropdown:
    return widgets.Dropdown(description=name, style={"description_width": "initial"}, layout=_fitting())


def _slider(name: str) -> widgets.SelectionSlider:
    """Return a slider over values; unlike a list of choices it always needs one."""
    settings: Any = {"style": {"description_width": "initial"}, "continuous_update": True}
    options = [(text, epoch) for epoch, text in NO_EPOCH.items()]
    return widgets.SelectionSlider(options=options, description=name, **settings)


def _seed_label(seed: int, run: Run) -> str:
    """Return the seed, with the state of its run unless that is done."""
    state = run.status["state"]
    return str(seed) if state == "done" else f"{seed} ({'not started' if state == 'new' else state})"


def _layers(run: Run | None) -> list[str]:
    return [layer.label for layer in reading_layers(known_of(run).network)] if run and run.started else []


def _groups(run: Run | None, label: str) -> int:
    """Return how many groups a layer has."""
    if not run or not run.started:
        return 0
    network = known_of(run).network
    if not isinstance(network, TrackedConfig):
        return network.groups
    labels = [layer.label for layer in reading_layers(network)]
    return network.layers[labels.index(label)]["groups"]


def _epochs(run: Run | None) -> dict[float, str]:
    """Return the moments at which the importance of a run's connections is known."""
    known = moments_of(run, mark(run)) if run else ()
    return {moment.epoch: f"{moment.epoch:.4g}" for moment in known} or NO_EPOCH


def _about(store: RunStore, runs: Runs, run: Run | None) -> str:
    """Return the shown run as HTML, and how many runs have started."""
    if run is None:
        return note(f"There is no run in {store.root} yet; `python -m analysis.ablate` trains some.")
    every = [run for seeds in runs.values() for run in seeds.values()]
    started = sum(run.started for run in every)
    rest = note(f"{started} of {len(every)} runs have started.") if started < len(every) else ""
    return f'<div style="line-height: normal">{run._repr_html_()}{rest}</div>'


def _up_to(layers: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Return the rows of all stages up to `stage`."""
    stages = list(dict.fromkeys(layers.stage))
    return layers[layers.stage.isin(stages[: stages.index(stage) + 1])]
