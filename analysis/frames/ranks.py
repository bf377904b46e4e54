"""Frames of ranks: where each connection stood among its group's inputs at each moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from condense_core.store import Run

from .columns import typed
from .moments import Moment, moments
from .sources import ReadingLayer, reading_layers
from .training import Source, runs_in


@dataclass(frozen=True)
class LayerRanks:
    """The connections of a layer over the moments of a run: arrays (moments, groups, in_channels).

    `rank` counts from 1, the most important of the group's live inputs; 0 is a connection that is dead.
    """

    layer: ReadingLayer
    epochs: list[float]
    stages: list[int | None]  # that start at these moments
    rank: np.ndarray
    importance: np.ndarray

    def spread(self, most: int) -> list[int]:
        """Return the moments at which a stage starts, and about `most` others at equal distances."""
        last = len(self.epochs) - 1
        others = np.linspace(0, last, max(2, min(most, last + 1))).round().astype(int).tolist()
        return sorted({*others, *(place for place, stage in enumerate(self.stages) if stage is not None)})


def pruning_order(importance: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Return the place of each input of a group (the last axis) in the order of pruning, 0 for the first.

    Dead inputs come before all that live; of equal ones the lower index goes first (`prune_mask`).
    """
    return np.where(alive, importance, -np.inf).argsort(-1, kind="stable").argsort(-1)


def ranked(importance: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Return the rank of each live input in its group, 1 for the most important, and 0 for dead ones.

    `importance` and `alive` are (groups, inputs); see `pruning_order`.

    >>> ranked(np.array([[0.5, 0.2, 0.2, 0.9]]), np.array([[True, True, True, False]])).tolist()
    [[1, 3, 2, 0]]
    """
    return np.where(alive, importance.shape[1] - pruning_order(importance, alive), 0)


def layer_ranks(run: Run, target: str | None = None) -> Iterator[LayerRanks]:
    """Yield the ranks of a run's layers, or of one; nothing unless the run learns groups and has begun."""
    if not run.learns_groups:
        return
    known = list(moments(run))
    for layer in reading_layers(run.network) if known else ():
        if target in (None, layer.label):
            yield ranks_of(layer, known)


def ranks_of(layer: ReadingLayer, known: Sequence[Moment]) -> LayerRanks:
    """Return the ranks of a layer at the moments of a run that learns its groups."""
    importance = np.stack([moment.importance[layer.module].astype(np.float32) for moment in known])
    alive = [moment.alive[layer.module] for moment in known]
    ranks = np.stack([ranked(*pair) for pair in zip(importance, alive, strict=True)])
    epochs, stages = [moment.epoch for moment in known], [moment.stage for moment in known]
    return LayerRanks(layer, epochs, stages, ranks, importance)


def ranks(source: Source, target: str | None = None) -> pd.DataFrame:
    """Return one row per run, target layer, group, live input channel and moment: its rank and importance.

    The moments are the starts of the stages, the recorded epochs and the end; a connection has no rows after
    the moment at which it is pruned. `target` restricts the frame to one layer. Raise ValueError if a run does
    not have it.
    """
    parts = [
        _layer_frame(found).assign(run=run.name) for run in runs_in(source) for found in _checked(run, target)
    ]
    return typed("ranks", pd.concat(parts, ignore_index=True) if parts else pd.DataFrame())


def _checked(run: Run, target: str | None) -> Iterator[LayerRanks]:
    known = [layer.label for layer in reading_layers(run.network)]
    if target not in (None, *known):
        raise ValueError(f"target {target!r}: run {run.name} has {', '.join(known)}")
    return layer_ranks(run, target)


def _layer_frame(found: LayerRanks) -> pd.DataFrame:
    moment, group, channel = found.rank.nonzero()
    places = (moment, group, channel)
    return pd.DataFrame(
        {
            **found.layer.columns,
            "group": group,
            "channel": channel,
            "source": np.array(found.layer.source_of)[channel],
            "epoch": np.array(found.epochs, float)[moment],
            "rank": found.rank[places],
            "importance": found.importance[places].astype(float),
        }
    )


def calls(alive: np.ndarray, importance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rank and margin of every connection at the pruning step that decided it: both (groups, inputs).

    `alive` and `importance` are (steps, groups, inputs), after and before each step. What is alive after the
    last step was decided at the last one that pruned anything. The rank is 0, and the margin NaN, of what never
    was alive; the margin is NaN too if nothing was pruned, or not equally many of each group.
    """
    before = np.concatenate([np.ones_like(alive[:1]), alive[:-1]])
    pruned = (before & ~alive).any((1, 2))
    decisive = np.where(alive[-1], len(alive) - 1 - pruned[::-1].argmax(), alive.argmin(0))[None]
    rank = np.stack([ranked(*step) for step in zip(importance, before, strict=True)])
    last_kept = np.where(alive, importance, np.inf).min(2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = importance / last_kept - 1
    even = (alive.sum(2) == alive.sum(2)[:, :1]).all() and pruned.any()
    rank, margin = (np.take_along_axis(array, decisive, 0)[0] for array in (rank, margin))
    return rank * alive[0], np.where(alive[0] & even, margin, np.nan)
