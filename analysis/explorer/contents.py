"""The contents of a run store that the explorer offers: runs by variant and seed, and whether they changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from condense_core.config import ModelConfig
from condense_core.store import Run, RunStore, TrackedConfig
from condense_core.validation import to_json

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


@dataclass(frozen=True)
class Known:
    """What the explorer knows of a started run; it never changes, because the run is named after it."""

    network: ModelConfig | TrackedConfig
    epochs: int
    seed: int
    kind: Any  # equal for runs that differ in their seed alone
    label: str
    details: str


@lru_cache(maxsize=4096)
def known_of(run: Run) -> Known:
    """Return what is known of a started run."""
    if run.is_tracked:
        own = run.tracked
        kind = to_json(replace(own, seed=0))
        return Known(own, own.epochs, own.seed, kind, own.variant, f"{own.data}, {own.epochs} epochs")
    config = run.config
    model, recipe, data = config.model, config.recipe, config.data
    details = f"{data.name}, {recipe.epochs} epochs"
    return Known(model, recipe.epochs, config.seed, (model, recipe, data), model.label, details)


def runs_of(store: RunStore, study: str) -> Runs:
    """Return the runs of a study, started or not; or all started runs of the store."""
    if study == ALL_RUNS:
        return _every_run(store)
    variants = store.read_study(study)["variants"]
    return {
        variant["label"]: {seed: Run(store.root / name) for seed, name in _by_seed(variant)}
        for variant in variants
    }


def _by_seed(variant: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    if "seeds" in variant:
        yield from zip(variant["seeds"], variant["runs"], strict=True)
    else:
        yield from enumerate(variant["runs"], variant.get("first_seed", 0))


def _every_run(store: RunStore) -> Runs:
    """Return the started runs by variant: its label, with more details if several variants share it."""
    kinds: dict[Any, dict[int, Run]] = {}
    for run in store.runs():
        known = known_of(run)
        kinds.setdefault(known.kind, {})[known.seed] = run
    firsts = [next(iter(seeds.values())) for seeds in kinds.values()]
    labels, runs = Counter(known_of(run).label for run in firsts), {}
    for run, seeds in zip(firsts, kinds.values(), strict=True):
        known, code = known_of(run), run.name.rpartition("-")[2]
        full = f"{known.label} ({known.details}, {code})"
        runs[known.label if labels[known.label] == 1 else full] = dict(sorted(seeds.items()))
    return runs
