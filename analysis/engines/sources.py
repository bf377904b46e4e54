"""Runs that start from other runs' results: their order, what keeps them from starting, and what they take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from condense_core.config import RunConfig
from condense_core.store import RunStore, by_layer

if TYPE_CHECKING:
    from torch import Tensor


def in_order(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """Return runs in their order, but each after those that it needs."""
    by_name = {config.name: config for config in configs}
    ordered: dict[str, RunConfig] = {}

    def add(config: RunConfig) -> None:
        for name in config.needs:
            if name in by_name and name not in ordered:
                add(by_name[name])
        ordered.setdefault(config.name, config)

    for config in by_name.values():
        add(config)
    return list(ordered.values())


def startable(waiting: Sequence[RunConfig], running: Iterable[RunConfig]) -> list[RunConfig]:
    """Return those waiting runs that need none of the others, waiting or running."""
    unfinished = {config.name for config in (*waiting, *running)}
    return [config for config in waiting if unfinished.isdisjoint(config.needs)]


def obstacle(config: RunConfig, store: RunStore) -> tuple[str, str] | None:
    """Return the state and reason of a run that cannot start because the one it starts from is not done."""
    if not (source := store.source_of(config)) or (state := source.status["state"]) == "done":
        return None
    if config.fork and config.fork.stage in [one.stage for one in source.checkpoints()]:
        return None
    reason = source.status.get("reason")
    cause = f"not started: it needs run {source.name}, which is {state}" + (f": {reason}" if reason else "")
    return {"stopped": "stopped", "running": "held"}.get(state, "failed"), cause


def taken_masks(config: RunConfig, store: RunStore) -> dict[str, Tensor] | None:
    """Return the masks of a run, (groups, in_channels) by layer, from the end of the one that has them.

    Return None for a run that takes none. Raise ValueError if they are damaged.
    """
    from condense_core.masks import shuffled

    source = store.source_of(config)
    if config.masks is None or source is None:
        return None
    masks = by_layer("mask", source.stage_tensors(source.stages()[-1]))
    return shuffled(masks, config.model, config.seed) if config.masks.shuffled else masks
