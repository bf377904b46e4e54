"""Forks in studies: each leaves the base of its own seed, and is compared with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from analysis.axes import fork_level
from condense_core.config import RunConfig
from condense_core.cost import cost_table
from condense_core.store import RunStore, final_stage, forked

from .fork_levels import parse_fork
from .variants import Variant

QUESTION = "What does another decision change from the moment at which it is taken?"
Record = dict[str, Any]


def fork_variants(base: Variant, parent: RunConfig, levels: Sequence[str]) -> Iterator[Variant]:
    """Yield a variant for each fork of the base, of which `parent` is a run.

    Raise ValueError if the base cannot be forked so, or two forks are the same.
    """
    labels = set()
    for level in levels:
        fork = forked(parent, *parse_fork(level))
        label = _label(base.label, fork)
        if label in labels:
            raise ValueError(f"fork {level!r}: is named twice")
        labels.add(label)
        residual = cost_table(fork.model, final_stage(fork)).macs / cost_table(base.model).macs - 1
        yield replace(
            base,
            model=fork.model,
            recipe=fork.recipe,
            role="fork",
            residual=residual,
            label=label,
            curve=None,
            fork=level,
        )


def _label(base: str, fork: RunConfig) -> str:
    return f"{base} fork {fork_level(fork)}"


def forks_name(parent: RunConfig) -> str:
    """Return the name of the study of all forks of a variant, whatever their seeds."""
    fork = replace(parent.fork, parent="any") if parent.fork else None
    return f"forks-{parent.model.label}-{replace(parent, seed=0, fork=fork).hash}"


def join_forks(store: RunStore, name: str, pairs: Sequence[tuple[RunConfig, RunConfig]]) -> None:
    """Enter parents and their forks, in pairs, into the study of that name, which is made if it is not there.

    Raise ValueError if the parents are not of one variant, or it is the study of something else.
    """
    record = _record(store, name)
    bases = [run for variant in record["variants"] if variant["role"] == "base" for run in variant["runs"]]
    variants = {forks_name(store.named(run).config): run for run in bases}
    variants |= {forks_name(parent): parent.name for parent, _ in pairs}
    if len(variants) > 1:
        raise ValueError(f"run {' and '.join(variants.values())}: are two variants; give each another --name")
    for parent, fork in pairs:
        _enter(record, "base", parent, parent.model.label)
        _enter(record, "fork", fork, _label(parent.model.label, fork))
    store.write_study(name, record)


def _record(store: RunStore, name: str) -> Record:
    try:
        record = store.read_study(name)
    except FileNotFoundError:
        return {"name": name, "question": QUESTION, "settings": {"name": name}, "variants": []}
    if record["question"] != QUESTION:
        raise ValueError(f"name {name!r}: is another study ({record['question']}); choose another name")
    return record


def _enter(record: Record, role: str, config: RunConfig, label: str) -> None:
    """Add a run to its variant, in the order of the seeds' names."""
    known = {variant["label"]: variant for variant in record["variants"]}
    if label not in known:
        size = config.model.growth[0]
        known[label] = {"label": label, "role": role, "size": size, "residual": 0.0, "curve": None, "runs": []}
        record["variants"].append(known[label])
    known[label]["runs"] = sorted({*known[label]["runs"], config.name}, key=_seed)


def _seed(run: str) -> tuple[int, str]:
    seed = run.rpartition("-s")[2].partition("-")[0]
    return int(seed), run
