"""The contents of a run store that the explorer offers: runs by variant and seed, and whether they changed."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from condense_core.config import RunConfig
from condense_core.store import Run, RunStore

ALL_RUNS = ""  # the value of `study` for all runs: no file has this name
WATCHED = ("config.json", "status.json", "metrics.jsonl", "result.json", "stages")

Mark = tuple[tuple[int, int], ...]
Runs = dict[str, dict[int, Run]]  # variant → seed → run


def stamp(path: Path) -> tuple[int, int]:
    """Return a value that changes with a file, or with the files in a folder; zeros if it does not exist."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def mark(run: Run) -> Mark:
    """Return a value that changes with anything that the explorer shows of a run."""
    return tuple(stamp(run.folder / name) for name in WATCHED)


@lru_cache(maxsize=4096)
def config_of(run: Run) -> RunConfig:
    """Return the configuration of a started run; it never changes, because the run is named after it."""
    return run.config


def runs_of(store: RunStore, study: str) -> Runs:
    """Return the runs of a study, started or not; or all started runs of the store."""
    if study == ALL_RUNS:
        return _every_run(store)
    variants = store.read_study(study)["variants"]
    return {
        variant["label"]: {
            seed: Run(store.root / name)
            for seed, name in enumerate(variant["runs"], variant.get("first_seed", 0))
        }
        for variant in variants
    }


def _every_run(store: RunStore) -> Runs:
    """Return the started runs by variant: its label, with more details if several variants share it."""
    kinds: dict[Any, dict[int, Run]] = {}
    for run in store.runs():
        config = config_of(run)
        kinds.setdefault((config.model, config.recipe, config.data), {})[config.seed] = run
    labels, runs = Counter(model.label for model, _, _ in kinds), {}
    for (model, recipe, data), seeds in kinds.items():
        code = next(iter(seeds.values())).name.rpartition("-")[2]
        full = f"{model.label} ({data.name}, {recipe.epochs} epochs, {code})"
        runs[model.label if labels[model.label] == 1 else full] = dict(sorted(seeds.items()))
    return runs
