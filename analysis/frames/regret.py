"""The frame of regret: what a fork that pruned nothing at a stage keeps of what its parent dropped there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from condense_core.store import Run, parent_of, skip_damaged
from condense_core.tables import SINGLE_WEIGHTS

from .ranks import pruning_order
from .sources import reading_layers
from .training import Source, runs_in, tidy_frame

Arrays = dict[str, np.ndarray]
Yardsticks = Mapping[tuple[str, int], Run]  # forks that prune at random, by parent and stage


def regret(source: Source) -> pd.DataFrame:
    """Return how many of the connections that a run dropped at a stage would have been kept later.

    A row for each fork that skips its pruning at a stage, each later moment and each layer. The next stage
    prunes the fork as usual. After the last stage nothing prunes it, so there those with the highest importance
    at the end count as kept, as many as the parent has. Forks whose parent is not in their store are left out
    with a warning. `stats.regrets` makes shares and intervals of it.
    """
    runs = [run for run in runs_in(source) if run.record.get("config", {}).get("fork")]
    drawn = {place: run for run in runs if (place := _drawn_at(run))}
    rows = (
        row
        for run in runs
        if _skips(run)
        for found in skip_damaged(lambda run: list(_rows(run, drawn)), run)
        for row in found
    )
    return tidy_frame("regret", rows)


def _skips(run: Run) -> bool:
    fork = run.config.fork
    return bool(fork and fork.skip_pruning) and run.config.model.grouping not in SINGLE_WEIGHTS


def _drawn_at(run: Run) -> tuple[str, int] | None:
    """Return the parent and the stage of a fork that differs from its parent in pruning at random."""
    fork = run.config.fork
    is_drawn = fork and fork.changed == ("criterion",) and run.config.recipe.criterion == "random"
    return (fork.parent, fork.stage) if fork and is_drawn else None


def _rows(run: Run, drawn: Yardsticks) -> Iterator[dict[str, Any]]:
    fork = run.config.fork
    assert fork is not None
    parent, last = parent_of(run, run.config), run.config.model.last_stage
    own, others = _arrays(run), _arrays(parent)
    moments = {"next": own.get(fork.stage + 1), "end": own.get(None)}
    if fork.stage not in own or fork.stage not in others:
        return
    yardstick = drawn.get((fork.parent, fork.stage))
    costs = {
        "cost": _error(parent) - _error(run),
        "random_cost": _error(yardstick) - _error(run) if yardstick else np.nan,
    }
    for layer in reading_layers(run.config.model):
        alive, after = (arrays[fork.stage][f"mask.{layer.module}"] for arrays in (own, others))
        for moment, arrays in moments.items():
            if arrays is None:
                continue
            kept = arrays[f"mask.{layer.module}"]
            if fork.stage == last:
                kept = highest(arrays[f"importance.{layer.module}"], alive, after.sum(1))
            counts = dict(zip(("dropped", "returned", "expected"), regretted(alive, after, kept), strict=True))
            place = {"run": run.name, "parent": parent.name, "stage": str(fork.stage), "moment": moment}
            if counts["dropped"]:
                yield place | layer.columns | counts | costs


def regretted(alive: np.ndarray, after: np.ndarray, kept: np.ndarray) -> tuple[int, int, float]:
    """Return how many connections a pruning step dropped, how many of them are kept later, and by chance.

    All are bool (groups, in_channels): alive before the step, alive after it, and kept later where it was
    skipped. By chance: if the step had dropped as many of each group at random.
    """
    dropped = alive & ~after
    by_group = dropped.sum(1) * (kept & alive).sum(1) / np.maximum(alive.sum(1), 1)
    return int(dropped.sum()), int((dropped & kept).sum()), float(by_group.sum())


def highest(importance: np.ndarray, alive: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the `counts` most important live inputs of each group: bool (groups, in_channels)."""
    return pruning_order(importance, alive) >= importance.shape[1] - counts[:, None]


def _arrays(run: Run) -> dict[int | None, Arrays]:
    """Return masks and importances of a run's stages, and of its end: None."""
    return {record["stage"]: run.stage_arrays(record) for record in run.stages()}


def _error(run: Run) -> float:
    return float(run.result.get("test_error_percent", np.nan))
