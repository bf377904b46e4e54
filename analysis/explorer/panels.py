"""The panels of the explorer: quick figures of a run, as HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from analysis import frames
from condense_core.config import ModelConfig
from condense_core.store import Run
from condense_core.tables import GROUPINGS, Grouping

from . import quick_figures
from .contents import Mark, known_of, mark


def note(text: str) -> str:
    """Return a text as an HTML paragraph."""
    return f"<p>{escape(text)}</p>"


def stages_of(run: Run | None) -> list[str]:
    """Return the names of the stages that a run has reached."""
    return [frames.stage_name(record) for record in run.stages()] if run else []


NO_STAGE = "No stage has started yet."
NO_MASKS = "Grouping none: every 1×1 convolution reads all of its inputs, so there is no mask to show."


@lru_cache(maxsize=256)
def draw_panel(name: str, run: Run, _: Mark, *chosen: Any) -> str:
    """Draw a panel as HTML; it is cached until the run's files change (its `mark`)."""
    panel = PANELS[name]
    content = note(NO_STAGE) if None in chosen else panel.draw(run, *chosen)
    return f'<div style="line-height: normal"><b>{panel.title}</b>{content}</div>'


def _connections_panel(run: Run, stage: str) -> str:
    connections = frames.connections(run, stage)
    return quick_figures.draw_connections(connections) if len(connections) else note(NO_MASKS)


def _mask_panel(run: Run, stage: str, label: str) -> str:
    for found in frames.fates(run, label):
        return quick_figures.draw_mask(found.layer, as_of(found.died, stage))
    return note(NO_MASKS)


NO_RANKS = "This run learns no groups, so its connections are not ranked."


@lru_cache(maxsize=4)
def moments_of(run: Run, _: Mark) -> tuple[frames.Moment, ...]:
    """Return the moments of a run; reading all of a long one takes longer than a change may."""
    return tuple(frames.moments(run)) if run.started else ()


def _ranks_panel(run: Run, label: str, group: int, epoch: float) -> str:
    known = moments_of(run, mark(run))
    if not run.learns_groups:
        return note(NO_RANKS)
    if not known:
        return note(NO_STAGE)
    layer = next(layer for layer in frames.reading_layers(known_of(run).network) if layer.label == label)
    return quick_figures.draw_ranks(frames.ranks_of(layer, known), group, epoch)


def _costs_panel(run: Run, stage: str) -> str:
    stages, network = stages_of(run), known_of(run).network
    shown = tuple(stages[: stages.index(stage) + 1])
    if isinstance(network, ModelConfig):
        return draw_costs_of(network, shown)
    layers = frames.layers(run)
    return quick_figures.draw_costs(layers[layers.stage.isin(shown)])


def draw_costs_of(model: ModelConfig, stages: tuple[str, ...]) -> str:
    """Draw the costs of a network by stage, like `frames.layers` of any of its runs."""
    return _drawn_costs(model, stages, GROUPINGS.get(model.grouping))


@lru_cache(maxsize=256)
def _drawn_costs(model: ModelConfig, stages: tuple[str, ...], _: Grouping | None) -> str:
    numbers = [model.last_stage if stage == "end" else int(stage) for stage in stages]
    pairs = zip(stages, numbers, strict=True)
    rows = [{"stage": stage} | row for stage, number in pairs for row in frames.layer_costs(model, number)]
    return quick_figures.draw_costs(pd.DataFrame(rows))


def _curves_panel(run: Run) -> str:
    epochs = frames.epochs(run)
    if epochs.empty:
        return note("No epoch is done yet.")
    return quick_figures.draw_curves(epochs, frames.stages(run), known_of(run).epochs)


def as_of(died: np.ndarray, stage: str) -> np.ndarray:
    """Return when each connection died, as it was in `stage`: −1 if it was alive then."""
    return died if stage == "end" else np.where(died > int(stage), -1, died)


@dataclass(frozen=True)
class Panel:
    """A panel of a run: the function that draws it, and the choices that it depends on besides the run."""

    title: str
    draw: Callable[..., str]
    follows: tuple[str, ...]


PANELS = {
    "connections": Panel("Which connections are alive", _connections_panel, ("stage",)),
    "costs": Panel("MACs by layer", _costs_panel, ("stage",)),
    "mask": Panel("One layer in full", _mask_panel, ("stage", "layer")),
    "ranks": Panel("Ranks of a group's inputs", _ranks_panel, ("layer", "group", "epoch")),
    "curves": Panel("Training", _curves_panel, ()),
}
