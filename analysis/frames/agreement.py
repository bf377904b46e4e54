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
from condense_core.store import Run
from condense_core.tables import LEARNED, SINGLE_WEIGHTS

from .sources import ReadingLayer, reading_layers
from .training import Source, runs_in, stage_name, tidy_frame

DRAWS = 100  # permutations that the expectation is the mean of
Arrays = dict[str, np.ndarray]


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
        if run.config.model.grouping not in SINGLE_WEIGHTS:
            found.setdefault(replace(run.config, seed=0).hash, []).append(run)
    yield from found.values()


def _with_masks(runs: list[Run], stage: str) -> list[tuple[Run, Arrays]]:
    records = [(run, record) for run in runs for record in run.stages() if stage_name(record) == stage]
    return [(run, run.stage_arrays(record)) for run, record in records]


def _pair_rows(
    one: tuple[Run, Arrays], other: tuple[Run, Arrays], stage: str, draws: np.random.Generator
) -> Iterator[dict[str, Any]]:
    (run, arrays), (second, others) = one, other
    for layer in _pruned_layers(run.config.model, arrays):
        name, firsts = f"mask.{layer.module}", layer.firsts
        a, b = arrays[name], others[name]
        kept = np.add.reduceat(a.sum(0) + b.sum(0), firsts) / 2
        for unit in ("channel", "source"):
            terms = a, b, firsts, unit == "channel"
            counts = kept, shared_by_source(*terms), chance_by_source(*terms, draws, DRAWS)
            start = {"run": run.name, "other": second.name, "stage": stage, "unit": unit}
            yield from (start | row for row in _source_rows(layer, *counts))


def _pruned_layers(model: ModelConfig, arrays: Arrays) -> Iterator[ReadingLayer]:
    """Yield the layers whose groups read some of their inputs only."""
    for layer in reading_layers(model):
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
    """Return how many of its final connections a run's scores would have chosen at the start of each stage.

    Scores are the importance Σ|W| of the connections that are alive then; in stage 0 that of the weights as
    drawn. A choice takes as many as are left at the end, at once. Runs that have not yet pruned for the last
    time have no rows. `stats.agreed` makes shares and intervals of it.
    """
    return tidy_frame("decided", (row for run in runs_in(source) for row in _decided_rows(run)))


def _decided_rows(run: Run) -> Iterator[dict[str, Any]]:
    model, records = run.config.model, run.stages()
    learned = model.grouping in LEARNED and model.grouping not in SINGLE_WEIGHTS
    if not learned or not any(record["stage"] in (None, model.last_stage) for record in records):
        return
    arrays = [run.stage_arrays(record) for record in records]
    for layer in _pruned_layers(model, arrays[-1]):
        name, final = f"importance.{layer.module}", arrays[-1][f"mask.{layer.module}"]
        alive = np.ones_like(final)
        for record, found in zip(records, arrays, strict=True):
            if record["stage"] is not None:
                counts = chosen_by_source(found[name], alive, final, layer.firsts)
                place = {"run": run.name, "stage": stage_name(record), "epoch": record["epoch"]}
                yield from (place | row for row in _source_rows(layer, *counts))
                alive = found[f"mask.{layer.module}"]


def chosen_by_source(
    scores: np.ndarray, alive: np.ndarray, final: np.ndarray, firsts: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return by source layer: the final connections, those that scores choose, and those that chance would.

    The arrays are (groups, inputs). In every group the scores choose as many live inputs as `final` has.
    """
    order = np.where(alive, scores, -np.inf).argsort(1, kind="stable").argsort(1)  # 0 is pruned first
    chosen = order >= final.shape[1] - final.sum(1, keepdims=True)
    chance = final.sum(1, keepdims=True) / alive.sum(1, keepdims=True)  # of each live input
    counted = (final, final & chosen, final * chance)
    kept, common, expected = (np.add.reduceat(part.sum(0), firsts) for part in counted)
    return kept, common, expected
