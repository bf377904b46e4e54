"""Frames of connections, channels and the stages in which they were pruned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from condense_core.store import Run

from .ranks import calls
from .sources import ReadingLayer, reading_layers
from .training import Source, runs_in, stage_name, tidy_frame


def connections(source: Source, stage: str | int | None = None) -> pd.DataFrame:
    """Return one row per run, stage, target layer and source layer: the connections between them that are left.

    `stage` (0 … C−1, 'end') restricts the frame to one stage. Raise ValueError if no run can have it.
    """
    found, stage = runs_in(source), None if stage is None else str(stage)
    last = max((run.network.last_stage for run in found), default=0)
    if found and stage not in (None, "end", *map(str, range(last + 1))):
        raise ValueError(f"stage {stage!r}: must be 0 to {last}, or 'end'")
    return tidy_frame("connections", (row for run in found for row in _connection_rows(run, stage)))


def _connection_rows(run: Run, stage: str | None) -> Iterator[dict[str, Any]]:
    layers = list(reading_layers(run.network))
    for record in run.stages():
        if stage not in (None, stage_name(record)):
            continue
        arrays = run.stage_arrays(record)
        for layer in layers:
            if f"mask.{layer.module}" not in arrays:
                continue
            mask = arrays[f"mask.{layer.module}"]
            weights = (arrays[f"importance.{layer.module}"] * mask).sum(0, dtype=float)
            alive = np.add.reduceat(mask.sum(0), layer.firsts).tolist()
            strength = np.add.reduceat(weights, layer.firsts).tolist()
            for order, (source, first, last) in enumerate(layer.sources):
                connections = (last - first) * len(mask)
                yield {
                    "run": run.name,
                    "stage": stage_name(record),
                    **layer.columns,
                    "source": source,
                    "source_position": order,
                    "distance": len(layer.sources) - order,
                    "channels": last - first,
                    "connections": connections,
                    "alive": alive[order] / connections,
                    "mean_weight": strength[order] / ((last - first) * layer.outputs),
                }


def channels(source: Source, target: str | None = None) -> pd.DataFrame:
    """Return one row per run, target layer, group and input channel: when the connection was pruned.

    `target` restricts the frame to one layer. Raise ValueError if a run does not have it.
    """
    return tidy_frame("channels", (row for run in runs_in(source) for row in _channel_rows(run, target)))


def _channel_rows(run: Run, target: str | None) -> Iterator[dict[str, Any]]:
    known = [layer.label for layer in reading_layers(run.network)]
    if target not in (None, *known):
        raise ValueError(f"target {target!r}: run {run.name} has {', '.join(known)}")
    for found in fates(run, target):
        for (group, channel), stage in np.ndenumerate(found.died):
            yield {
                "run": run.name,
                **found.layer.columns,
                "group": group,
                "channel": channel,
                "source": found.layer.source_of[channel],
                "died": int(stage),
                **{
                    name: getattr(found, name)[group, channel].item()
                    for name in ("importance", "rank", "margin")
                },
            }


@dataclass(frozen=True)
class Fates:
    """What became of the connections of a layer: arrays (groups, in_channels), as the columns of `channels`."""

    layer: ReadingLayer
    died: np.ndarray
    importance: np.ndarray
    rank: np.ndarray
    margin: np.ndarray


def fates(run: Run, target: str | None = None) -> Iterator[Fates]:
    """Yield what became of the connections of each target, or of one.

    They died in a stage (−1: alive); a connection that never existed died in stage 0.
    """
    records = run.stages()
    arrays = [run.stage_arrays(record) for record in records]
    stages = np.array([-1 if record["stage"] is None else record["stage"] for record in records])
    for layer in reading_layers(run.network):
        if target in (None, layer.label) and arrays and f"mask.{layer.module}" in arrays[0]:
            alive = np.stack([stage[f"mask.{layer.module}"] for stage in arrays])
            importance = np.stack([stage[f"importance.{layer.module}"] for stage in arrays])
            first_dead = np.where(alive[-1], len(records) - 1, alive.argmin(0))
            died = np.where(alive[-1], -1, stages[first_dead]).astype(np.int8)
            then = np.take_along_axis(importance, first_dead[None], 0)[0]
            yield Fates(layer, died, then, *calls(alive, importance))
