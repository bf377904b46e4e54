"""Exploring a run store in a notebook: choose a run, a stage and a layer, and see them at once.

A change may take 0.3 s, and one figure of `plots` takes half a second. So the panels are `sketches`, drawn from
the frames that the figures are drawn from; `Explorer.figures` gives the figures of what is shown.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from threading import Thread, main_thread
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import frames, plots
from analysis.frames.sources import targets
from analysis.plots.style import stage_title
from condense_core.config import ModelConfig, RunConfig
from condense_core.store import Run, RunStore

from . import quick_figures

POLL_SECONDS = 2.0
ALL_RUNS = ""  # the value of `study` then: no file has this name
CHOICES = ("study", "variant", "seed", "stage", "layer")
WATCHED = ("config.json", "status.json", "metrics.jsonl", "result.json", "stages")
UNREADABLE = (OSError, ValueError, KeyError)  # a damaged file, or one that is just being replaced

Mark = tuple[tuple[int, int], ...]
Runs = dict[str, dict[int, Run]]  # variant → seed → run


def explore(runs: str | Path = "runs") -> Explorer:
    """Widgets to look through a run store with, also while its runs are being trained.

    Raises FileNotFoundError where there is no run store.
    """
    frames.runs_in(runs)
    return Explorer(RunStore(Path(runs)))


class Explorer(widgets.VBox):
    """Choose with `study`, `variant`, `seed`, `stage` and `layer`; `about` and `panels` show it.

    A choice stays while others change, and comes back where it had to give way. Until a stage is chosen the
    newest one is shown. With `follow` checked, what is new in the store appears, until `close`.
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
        self.choices = {name: _dropdown(name) for name in CHOICES}
        self.study, self.variant, self.seed, self.stage, self.layer = self.choices.values()
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
        """Offer what the store has, keep what was chosen as far as it is there, and draw what that changes."""
        studies, self._runs, self.run = self._study_marks(), {}, None
        try:
            with self._quietly():
                self._offer_all(list(studies))
            self._seen = studies, self._run_marks()
            self.about.value = _about(self.store, self._runs, self.run)
        except UNREADABLE as error:
            self._seen, self.run = None, None
            self.about.value = _note(f"{self.study.value or self.store.root}: cannot be read: {error!r}")
        self._draw()
        self._look_ahead()

    def _offer_all(self, studies: list[str]) -> None:
        """Study, variant and seed, and what their run has reached."""
        self._offer("study", {name: name for name in studies} | {ALL_RUNS: "all runs"})
        self._runs = _runs_of(self.store, self.study.value)
        self._offer("variant", {name: name for name in self._runs})
        seeds = self._runs.get(self.variant.value, {})
        self._offer("seed", {seed: _seed_label(seed, run) for seed, run in seeds.items()})
        self.run = seeds.get(self.seed.value)
        self._offer("stage", {stage: stage_title(stage) for stage in _stages(self.run)}, newest=True)
        self._offer("layer", {label: label for label in _layers(self.run)}, newest=True)

    def _offer(self, name: str, labels: dict[Any, str], newest: bool = False) -> None:
        """Give a choice its values and their labels: it keeps what was wished for, or takes an end of them."""
        choice, values, wish = self.choices[name], list(labels), self._wishes.get(name)
        default = values[-1 if newest else 0] if values else None
        options = tuple((label, value) for value, label in labels.items())
        if options != choice.options:
            choice.options = options
        choice.value = wish if wish in values else default

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """What changes inside was chosen by nobody."""
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
            return _picture(name, run, _mark(run), *chosen)
        except UNREADABLE as error:
            self._seen = None  # look again, though nothing more should happen to it
            return _note(f"{PANELS[name].title}: cannot be read: {error!r}")

    def figures(self) -> dict[str, Figure]:
        """What the panels show, as figures of `plots`; they take some seconds. Empty without a stage."""
        run, stage, layer = self.run, self.stage.value, self.layer.value
        if run is None or stage is None:
            return {}
        found = {
            "costs": plots.cost_by_layer(_up_to(frames.layers(run), stage)),
            "curves": plots.run_life(frames.epochs(run), frames.stages(run)),
        }
        connections, channels = frames.connections(run), frames.channels(run, layer)
        if len(connections):
            channels = channels.assign(died=_as_of(channels.died.to_numpy(), stage))
            found["connections"] = plots.pruned_connections(connections[connections.stage == stage])
            found["mask"] = plots.layer_connections(channels)
        return found

    def poll(self) -> bool:
        """Look at the store once and show what is new; whether anything was."""
        if self._seen == (self._study_marks(), self._run_marks()):
            return False
        self.update()
        return True

    def _study_marks(self) -> dict[str, tuple[int, int]]:
        return {path.stem: _stamp(path) for path in sorted((self.store.root / "studies").glob("*.json"))}

    def _run_marks(self) -> Any:
        """Changes when a run of the shown variant does, or where all are shown, when another one begins."""
        begun = self.store.runs() if self.study.value == ALL_RUNS else None
        return begun, [_mark(run) for run in self._runs.get(self.variant.value, {}).values()]

    def _watch(self) -> asyncio.Task[None] | None:
        """A task that follows the store; None outside of a notebook, where nothing would run it."""
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
        """Draw the costs of the other variants aside: to count a network's takes longer than a change may."""
        ahead = tuple(run for seeds in self._runs.values() for run in list(seeds.values())[:1] if run.begun)
        if ahead != self._ahead:
            self._ahead = ahead
            Thread(target=self._draw_ahead, args=(ahead,)).start()

    def _draw_ahead(self, runs: tuple[Run, ...]) -> None:
        with suppress(*UNREADABLE):  # told when it is chosen
            for model in (_config(run).model for run in runs):
                if self._open and self._ahead is runs and main_thread().is_alive():
                    _costs(model, (*map(str, range(model.last_stage + 1)), "end"))

    def close(self) -> None:
        """Take the widgets away, and look at the store no longer."""
        self._open = False
        if watching := getattr(self, "_watching", None):
            watching.cancel()
        super().close()


def _fitting() -> widgets.Layout:
    return widgets.Layout(width="max-content")


def _dropdown(name: str) -> widgets.Dropdown:
    return widgets.Dropdown(description=name, style={"description_width": "initial"}, layout=_fitting())


def _stamp(path: Path) -> tuple[int, int]:
    """Changes when a file does, or when a folder gets or loses one; zeros where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _mark(run: Run) -> Mark:
    """Changes when anything does that is shown of a run."""
    return tuple(_stamp(run.folder / name) for name in WATCHED)


@lru_cache(maxsize=4096)
def _config(run: Run) -> RunConfig:
    """The configuration of a run that was begun; it never changes, for it makes the run's name."""
    return run.config


def _runs_of(store: RunStore, study: str) -> Runs:
    """The runs of a study, begun or not; or every run that was begun."""
    if study == ALL_RUNS:
        return _every_run(store)
    variants = store.read_study(study)["variants"]
    return {v["label"]: {s: Run(store.root / name) for s, name in enumerate(v["runs"])} for v in variants}


def _every_run(store: RunStore) -> Runs:
    """The begun runs by variant: its label, and where several share that, what else tells them apart."""
    kinds: dict[Any, dict[int, Run]] = {}
    for run in store.runs():
        config = _config(run)
        kinds.setdefault((config.model, config.recipe, config.data), {})[config.seed] = run
    labels, runs = Counter(model.label for model, _, _ in kinds), {}
    for (model, recipe, data), seeds in kinds.items():
        code = next(iter(seeds.values())).name.rpartition("-")[2]
        full = f"{model.label} ({data.name}, {recipe.epochs} epochs, {code})"
        runs[model.label if labels[model.label] == 1 else full] = dict(sorted(seeds.items()))
    return runs


def _seed_label(seed: int, run: Run) -> str:
    """The seed, and the state of its run unless that is done."""
    state = run.status["state"]
    return str(seed) if state == "done" else f"{seed} ({'not begun' if state == 'new' else state})"


def _stages(run: Run | None) -> list[str]:
    return [frames.stage_name(record) for record in run.stages()] if run else []


def _layers(run: Run | None) -> list[str]:
    return [layer.label for layer in targets(_config(run).model)] if run and run.begun else []


def _about(store: RunStore, runs: Runs, run: Run | None) -> str:
    """The run that is shown, and how many others are still to come."""
    if run is None:
        return _note(f"There is no run in {store.root} yet; `python -m analysis.ablate` trains some.")
    every = [run for seeds in runs.values() for run in seeds.values()]
    begun = sum(run.begun for run in every)
    rest = _note(f"{begun} of {len(every)} runs have begun.") if begun < len(every) else ""
    return f'<div style="line-height: normal">{run._repr_html_()}{rest}</div>'


def _note(text: str) -> str:
    return f"<p>{escape(text)}</p>"


NO_MASKS = "Grouping none: every 1×1 convolution reads all of its inputs, so there is no mask to show."


@lru_cache(maxsize=256)
def _picture(name: str, run: Run, mark: Mark, *chosen: str | None) -> str:
    """A panel as HTML, drawn once until the run's files change."""
    panel = PANELS[name]
    content = _note("No stage has begun yet.") if None in chosen else panel.draw(run, *chosen)
    return f'<div style="line-height: normal"><b>{panel.title}</b>{content}</div>'


@dataclass(frozen=True)
class _RunAt(Run):
    """A run of which frames read one stage: all of them would take longer than the rest of a change."""

    stage: str

    def stages(self) -> list[dict[str, Any]]:
        return [record for record in super().stages() if frames.stage_name(record) == self.stage]


def _connections_panel(run: Run, stage: str) -> str:
    connections = frames.connections(_RunAt(run.folder, stage))
    return quick_figures.draw_connections(connections) if len(connections) else _note(NO_MASKS)


def _mask_panel(run: Run, stage: str, label: str) -> str:
    for layer, died, _ in frames.deaths(run, label):
        return quick_figures.draw_mask(layer, _as_of(died, stage))
    return _note(NO_MASKS)


def _costs_panel(run: Run, stage: str) -> str:
    stages = _stages(run)
    return _costs(_config(run).model, tuple(stages[: stages.index(stage) + 1]))


@lru_cache(maxsize=256)
def _costs(model: ModelConfig, stages: tuple[str, ...]) -> str:
    """The costs of a network after its stages, which its runs have in common: `frames.layers` without a run."""
    numbers = [model.last_stage if stage == "end" else int(stage) for stage in stages]
    pairs = zip(stages, numbers, strict=True)
    rows = [{"stage": stage} | row for stage, number in pairs for row in frames.layer_costs(model, number)]
    return quick_figures.draw_costs(pd.DataFrame(rows))


def _curves_panel(run: Run) -> str:
    epochs = frames.epochs(run)
    if epochs.empty:
        return _note("No epoch is done yet.")
    return quick_figures.draw_curves(epochs, frames.stages(run), _config(run).recipe.epochs)


def _as_of(died: np.ndarray, stage: str) -> np.ndarray:
    """When each connection died, of those that were dead in `stage`; −1: alive then."""
    return died if stage == "end" else np.where(died > int(stage), -1, died)


def _up_to(layers: pd.DataFrame, stage: str) -> pd.DataFrame:
    """The rows of the stages until `stage`."""
    stages = list(dict.fromkeys(layers.stage))
    return layers[layers.stage.isin(stages[: stages.index(stage) + 1])]


@dataclass(frozen=True)
class Panel:
    """A picture of a run, what draws it, and which choices it follows besides the run's."""

    title: str
    draw: Callable[..., str]
    follows: tuple[str, ...]


PANELS = {
    "connections": Panel("Which connections are alive", _connections_panel, ("stage",)),
    "costs": Panel("MACs by layer", _costs_panel, ("stage",)),
    "mask": Panel("One layer in full", _mask_panel, ("stage", "layer")),
    "curves": Panel("Training", _curves_panel, ()),
}
