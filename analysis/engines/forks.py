"""Train a fork from Python."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from condense_core.store import Run, RunStore

from .single_run import execute


def train_fork(run: Run, stage: int, data_dir: str | Path = "data", **changes: Any) -> Run:
    """Train a fork of a run at a stage's entry, and return it; one that is done is only returned.

    `changes` are settings (`criterion`, `condense_factor`, `pruning`, `group_lasso`, `learning_rate`,
    `retraining_rate`, `momentum`, `weight_decay`), the name of a run as `mask_from`, or `skip_pruning`. Warns
    if it failed or diverged. Raises ValueError or FileNotFoundError before it trains, as `Run.fork` does.
    """
    config, store = run.fork(stage, **changes), RunStore(run.folder.parent)
    outcome = execute(config, store, Path(data_dir))
    if outcome.state != "done":
        warnings.warn(f"{outcome.state}: {outcome.run}: {outcome.reason}", stacklevel=2)
    return store.run(config)
