"""Frames of agreement: connections that runs share, and those that a run's scores would have chosen earlier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.stats import chance_by_source, shared_by_source
from condense_core.config import ModelConfig
from condense_core.store import Run, TrackedConfig
from condense_core.tables import SINGLE_WEIGHTS

from .columns import typed
from .moments import Arrays, Moment, moments
from .ranks import pruning_order
from .sources import ReadingLayer, reading_layers
from .training import Source, runs_in, stage_name, tidy_frame

DRAWS = 100  # permutations that the expectation is the mean of


def agreement(source: Source, stage: str | int = "end") -> pd.DataFrame:
    """Return the connections that each pair of runs shares, by target and source layer, groups matched.

    The runs of a pair differ in their seed alone. `stage` (0 … C−1, 'end') is the one that is compared.
    `stats.agreed` makes shares and intervals of it.
    """
    draws = np.random.default_rng(0)
    rows = (
        row
        for alike in _alike(runs_in(source))
        for pair in combinations(_with_masks(alike, str(stage)), 2)
        for row in _pair_rows(*pair, str(stage), draws)
    )
    return tidy_frame("agreement", rows)


def _alike(runs: Iterable[Run]) -> Iterator[list[Run]]:
    """Yield the runs that differ in their seed alone; single weights have no groups to match."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if _has_groups(run):
            config = run.tracked if run.is_tracked else run.config
            found.setdefault(replace(config, seed=0).hash, []).append(run)
    yield from found.values()


def _has_groups(run: Run) -> bool:
    return run.is_tracked or run.config.model.grouping not in SINGLE_WEIGHTS


def _with_masks(runs: list[Run], stage: str) -> list[tuple[Run, Arrays]]:
    records = [(run, record) for run in runs for record in run.stages() if stage_name(record) == stage]
    return [(run, run.stage_arrays(record)) for run, record in records]


def _pair_rows(
    one: tuple[Run, Arrays], other: tuple[Run, Arrays], stage: str, draws: np.random.Generator
) -> Iterator[dict[str, Any]]:
    (run, arrays), (second, others) = one, other
    for layer in _pruned_layers(run.network, arrays):
        name, firsts = f"mask.{layer.module}", layer.firsts
        a, b = arrays[name], others[name]
        kept = np.add.reduceat(a.sum(0) + b.sum(0), firsts) / 2
        for unit in ("channel", "source"):
            terms = a, b, firsts, unit == "channel"
            counts = kept, shared_by_source(*terms), chance_by_source(*terms, draws, DRAWS)
            start = {"run": run.name, "other": second.name, "stage": stage, "unit": unit}
            yield from (start | row for row in _source_rows(layer, *counts))


def _pruned_layers(network: ModelConfig | TrackedConfig, arrays: Arrays) -> Iterator[ReadingLayer]:
    """Yield the layers whose groups read some of their inputs only."""
    for layer in reading_layers(network):
        mask = arrays.get(f"mask.{layer.module}")
        if mask is not None and not mask.all():
            yield layer


def _source_rows(
    layer: ReadingLayer, kept: np.ndarray, common: np.ndarray, expected: np.ndarray
) -> Iterator[dict[str, Any]]:
    for place, (source, _, _) in enumerate(layer.sources):
        yield {
            **layer.columns,
            "source": source,
            "distance": len(layer.sources) - place,
            "kept": float(kept[place]),
            "shared": float(common[place]),
            "expected": float(expected[place]),
        }


def decided(source: Source) -> pd.DataFrame:
    """Return how many of its final connections a run's scores would have chosen at each earlier moment.

    Scores are the importance Σ|W| of the connections that are alive then: at the start of each stage and after
    each recorded epoch, until the last stage starts; at epoch 0 that of the weights as drawn. A choice takes as
    many as are left at the end, at once. Runs that have not yet pruned for the last time have no rows.
    `stats.agreed` makes shares and intervals of it.
    """
    parts = [part for run in runs_in(source) for part in _decided_parts(run)]
    return typed("decided", pd.concat(parts, ignore_index=True) if parts else pd.DataFrame())


def _decided_parts(run: Run) -> Iterator[pd.DataFrame]:
    if not run.learns_groups:
        return
    known = list(moments(run))
    last = next((place for place, moment in enumerate(known) if moment.stage == run.network.last_stage), None)
    if last is None:
        return
    final = run.stage_arrays(run.stages()[-1])
    for layer in _pruned_layers(run.network, final):
        yield _decided_part(layer, known[: last + 1], final[f"mask.{layer.module}"]).assign(run=run.name)


def _decided_part(layer: ReadingLayer, known: list[Moment], final: np.ndarray) -> pd.DataFrame:
    """Return the rows of a layer: every source at every moment."""
    scores = np.stack([moment.importance[layer.module] for moment in known])
    alive = np.stack([moment.alive[layer.module] for moment in known])
    counts = dict(zip(("kept", "shared", "expected"), chosen(scores, alive, final), strict=True))
    names = [source for source, _, _ in layer.sources]
    columns = {
        **layer.columns,
        "epoch": np.repeat([float(moment.epoch) for moment in known], len(names)),
        "source": names * len(known),
        "distance": [*range(len(names), 0, -1)] * len(known),
    }
    by_source = {name: np.add.reduceat(count, layer.firsts, axis=1).ravel() for name, count in counts.items()}
    return pd.DataFrame(columns | by_source)


def chosen(
    scores: np.ndarray, alive: np.ndarray, final: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each input the final connections, those that scores choose, and those that chance would.

    `scores` and `alive` are (moments, groups, inputs), `final` is (groups, inputs), what is returned (moments,
    inputs). In every group the scores choose as many live inputs as `final` has.
    """
    are_chosen = pruning_order(scores, alive) >= final.shape[1] - final.sum(1, keepdims=True)
    chance = final.sum(1, keepdims=True) / alive.sum(2, keepdims=True)  # of each live input
    kept = np.broadcast_to(final, alive.shape)
    return kept.sum(1), (kept & are_chosen).sum(1), (kept * chance).sum(1)
