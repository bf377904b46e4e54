"""Forks: runs that leave another run, their parent, at a stage's entry and decide otherwise from there.

The prefix is not trained again. A fork's folder begins with the parent's rows and stage records of the
prefix, so that it is read, compared and resumed like any run; its seconds are only its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from condense_core.config import AT_ONCE, ForkConfig, ModelConfig, RecipeConfig, RunConfig
from condense_core.files import check_inside, nearest, plain_name, read_checked, write_atomically
from condense_core.stages import stage_of

from . import importance, provenance
from .checkpoints import Checkpoint, State
from .packed import without_weights
from .schemas import by_layer

if TYPE_CHECKING:
    from torch import Tensor

    from .run import Run

CHANGES = (
    *("criterion", "condense_factor", "pruning", "group_lasso"),
    *("learning_rate", "retraining_rate", "momentum", "weight_decay"),
)
"""The settings that a fork may change."""

DECISIONS = ("mask_from", "skip_pruning")
"""What else a fork may decide: to take another run's masks, or to prune nothing at its stage."""


class Changed(ValueError):
    """The code, torch or the data changed since an unfinished run was started, or the parent of a fork."""


def fork_config(run: Run, stage: int, **changes: Any) -> RunConfig:
    """Return the configuration of a fork of a run at a stage's entry, with `changes` (`CHANGES`, `DECISIONS`).

    Raises FileNotFoundError if a run is not there, Changed if the run was trained with other code or torch, and
    ValueError for a stage without a kept state, and changes that are none, unknown or out of reach.
    """
    config = forked(run.config, stage, changes)
    kept_state(run, stage)
    refuse_changed(run)
    given_masks_of(run, config)
    return config


def forked(parent: RunConfig, stage: int, changes: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a fork, by the configuration of its parent alone; raise as `fork_config`."""
    for name in changes:
        if name not in (*CHANGES, *DECISIONS):
            raise ValueError(f"unknown change {name!r}: {nearest(name, (*CHANGES, *DECISIONS))}")
    given = {name: value for name, value in changes.items() if value is not None and value is not False}
    check_stage(parent, stage)
    if not given:
        raise ValueError(f"changes: none; a fork changes one or more of {', '.join((*CHANGES, *DECISIONS))}")
    if parent.model.condense_factors and "condense_factor" in given:
        factors = ", ".join(map(str, parent.model.condense_factors))
        text = f"the layers of {parent.name} have their own ({factors}); change something else"
        raise ValueError(f"condense_factor {given['condense_factor']!r}: {text}")
    for name, value in given.items():
        if name in CHANGES and value == setting(parent, name):
            raise ValueError(f"{name} {value!r}: is what {parent.name} has already; give another value")
    fork = ForkConfig(
        parent.name,
        stage,
        tuple(name for name in CHANGES if name in given),
        **{name: given[name] for name in DECISIONS if name in given},
    )
    model, recipe = (_with(part, given) for part in (parent.model, parent.recipe))
    config = replace(parent, model=model, recipe=recipe, fork=fork)
    _check_schedule(parent, config, stage)
    return config


def setting(config: RunConfig, name: str) -> Any:
    """Return a setting of a run that a fork may change. Raise ValueError for any other."""
    if name not in CHANGES:
        raise ValueError(f"changed {name!r}: {nearest(name, CHANGES)}")
    return getattr(config.model if name == "condense_factor" else config.recipe, name)


def _with(part: Any, given: Mapping[str, Any]) -> Any:
    names = {item.name for item in fields(part)}
    return replace(part, **{name: value for name, value in given.items() if name in names & {*CHANGES}})


def check_stage(parent: RunConfig, stage: int) -> None:
    """Raise ValueError if a run never enters a stage in which it is pruned."""
    last = parent.model.last_stage
    valid = [last] if parent.recipe.pruning in AT_ONCE else list(range(1, last + 1))
    if not last:
        raise ValueError(f"stage {stage!r}: {parent.name} (grouping {parent.model.grouping!r}) is never pruned")
    if type(stage) is not int or stage not in valid:
        raise ValueError(f"stage {stage!r}: {parent.name} is pruned in stage {', '.join(map(str, valid))}")


def _check_schedule(parent: RunConfig, config: RunConfig, stage: int) -> None:
    """Raise ValueError if the fork would by its own schedule be in a stage that is already behind it."""
    before = 0 if parent.recipe.pruning in AT_ONCE else stage - 1
    began = _began(parent.model, parent.recipe, stage)
    due = stage_of(began, config.model.last_stage + 1, config.recipe.pruning)
    if before and due <= before:
        assert config.fork is not None
        name = next(name for name in ("condense_factor", "pruning") if name in config.fork.changed)
        raise ValueError(
            f"{name} {setting(config, name)!r}: would be in stage {due} at the entry of stage {stage}, where "
            f"{parent.name} was pruned further already; fork it at an earlier stage, the first is 1"
        )


def _began(model: ModelConfig, recipe: RecipeConfig, stage: int) -> Fraction:
    """Return the fraction of training at which a stage begins."""
    parts = 4 * max(model.last_stage, 1)  # every schedule's stages begin at multiples of it
    moments = (Fraction(part, parts) for part in range(parts))
    return next(at for at in moments if stage_of(at, model.last_stage + 1, recipe.pruning) >= stage)


def final_stage(config: RunConfig) -> int:
    """Return the stage that a run's masks are in at the end: below the last one if it prunes nothing there."""
    fork, last = config.fork, config.model.last_stage
    return last - 1 if fork and fork.skip_pruning and fork.stage == last else last


def kept_state(run: Run, stage: int) -> Checkpoint:
    """Return the state that a run keeps at a stage's entry. Raise FileNotFoundError, naming those it has."""
    kept = {one.stage: one for one in run.checkpoints() if one.stage is not None}
    if stage not in kept:
        there = ", ".join(map(str, sorted(kept))) or "none"
        state = run.status["state"]
        raise FileNotFoundError(
            f"stage {stage}: run {run.name} ({state}) keeps no such state; there: {there}{without_weights(run)}"
        )
    return kept[stage]


def refuse_changed(parent: Run, data_fingerprint: str | None = None) -> None:
    """Raise Changed if code, torch or data are not those that the parent of a fork was trained with."""
    if found := provenance.changes(parent.record, data_fingerprint):
        raise Changed(
            f"run {parent.name}: cannot be forked: {'; '.join(found)}. Revert the change, or move its "
            "folder out of the store and train it again"
        )


def parent_of(run: Run, config: RunConfig) -> Run:
    """Return the parent of a fork, which is in the same store. Raise FileNotFoundError if it is not there."""
    assert config.fork is not None
    return _beside(run, config.fork.parent, "parent")


def _beside(run: Run, name: str, what: str) -> Run:
    store = run.folder.parent
    found = type(run)(check_inside(store / plain_name(name, what), store))
    if not found.started:
        raise FileNotFoundError(f"{what} {name!r}: is not in {store}")
    return found


def begin(run: Run) -> State:
    """Give a fork the rows and stage records of the prefix, and return the state that it starts from."""
    config = run.config
    assert config.fork is not None
    parent = parent_of(run, config)
    refuse_changed(parent, run.record["data_fingerprint"])
    tensors, numbers = kept_state(parent, config.fork.stage).load()
    files = {"metrics.jsonl": _lines(parent.epochs(), numbers["epoch"])}
    if recorded := parent.importance_rows():
        files[importance.NAME] = _lines(recorded, numbers["epoch"])
    files |= dict(_stage_files(parent, config.fork.stage))
    for name, content in files.items():
        write_atomically(run.folder / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return tensors, numbers


def _lines(rows: list[dict[str, Any]], epoch: int) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows if row["epoch"] <= epoch).encode()


def _stage_files(parent: Run, stage: int) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the stages before one, with their names in the run's folder."""
    for record in parent.stages():
        if record["stage"] is not None and record["stage"] < stage:
            path = parent.folder / "stages" / record["tensors"]
            yield f"stages/{path.name}", read_checked(path, parent.folder, record["sha256"])
            yield f"stages/{path.stem}.json", path.with_suffix(".json").read_bytes()


def given_masks_of(run: Run, config: RunConfig) -> dict[int, dict[str, Tensor]]:
    """Return the masks that a fork takes from another run in its store, by stage and layer; none without one.

    Raises FileNotFoundError or ValueError if that run is not there, is another network or lacks a stage.
    """
    if config.fork is None or config.fork.mask_from is None:
        return {}
    source = _beside(run, config.fork.mask_from, "mask_from")
    _check_same_network(config.model, source)
    records = {record["stage"]: record for record in source.stages()}
    found = {}
    for stage in range(config.fork.stage, config.model.last_stage + 1):
        if stage not in records:
            raise ValueError(f"mask_from {source.name!r}: has no masks of stage {stage}")
        found[stage] = by_layer("mask", source.stage_tensors(records[stage]))
    return found


def _check_same_network(model: ModelConfig, source: Run) -> None:
    other = source.config.model
    for item in fields(ModelConfig):
        own, found = getattr(model, item.name), getattr(other, item.name)
        if own != found:
            raise ValueError(
                f"mask_from {source.name!r}: is another network: its {item.name} is {found!r}, not {own!r}"
            )
