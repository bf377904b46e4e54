"""What the runs said of each image, as a frame and as the statistics take it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.stats import Outcomes
from condense_core.store import Run, skip_damaged

from .columns import COLUMNS, typed
from .training import Source, runs_in, tidy_frame

SPLITS = ("test", "validation")


def outcomes(source: Source, split: str = "test") -> pd.DataFrame:
    """Return one row per run and image of a split: what the final weights said of it.

    Runs that are not finished, and runs of earlier versions, have no rows. `split` is 'test' or 'validation';
    raise ValueError for another.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
    parts = [part for run in runs_in(source) for part in skip_damaged(lambda run: _of_run(run, split), run)]
    found = [part for part in parts if len(part)]
    return pd.concat(found, ignore_index=True) if found else tidy_frame("outcomes", [])


def _of_run(run: Run, split: str) -> pd.DataFrame:
    if not (said := _said(run, split)):
        return pd.DataFrame()
    frame = pd.DataFrame(said).assign(run=run.name, split=split)
    frame["correct"] = frame.predicted == frame.label
    return typed("outcomes", frame[list(COLUMNS["outcomes"])])


def answers(source: Source, split: str = "test") -> Outcomes:
    """Return which images each run got wrong, for `stats`: the same as `outcomes`, without a row per image."""
    found = {
        run.name: part for run in runs_in(source) for part in skip_damaged(lambda run: _said(run, split), run)
    }
    known = {name: part for name, part in found.items() if part}
    wrong = {name: part["predicted"] != part["label"] for name, part in known.items()}
    return Outcomes(wrong, {name: part["image"] for name, part in known.items()})


def _said(run: Run, split: str) -> dict[str, np.ndarray]:
    """Return what a run said of a split's images by column, each (N,); nothing if it has none."""
    start = f"{split}."
    said = run.outcomes().items()
    return {name.removeprefix(start): array for name, array in said if name.startswith(start)}
