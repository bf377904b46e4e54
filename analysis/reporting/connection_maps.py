"""Pack the connections of runs for the report's interactive map, and their ranks for its lines over time."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from analysis import frames
from condense_core.store import Run

ALIVE = 255
BUDGET = 400_000  # characters of all maps on a page


def pack(array: np.ndarray) -> str:
    """Compress the bytes of an array, and return them as base64."""
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()


def connection_map(run: Run) -> dict[str, Any]:
    """Pack one run: its targets with their sources, the stage in which each connection died, mean |W| by stage.

    `died` has one byte per connection, target by target, groups × inputs: the stage, or 255 if it is alive.
    `weights` has one float32 per stage, target and source, in this order.
    """
    layers = list(frames.fates(run))
    connections = frames.connections(run)
    died = [np.where(layer.died < 0, ALIVE, layer.died).astype(np.uint8).ravel() for layer in layers]
    return {
        "run": run.name,
        "stages": list(dict.fromkeys(connections.stage)),
        "targets": [_target(found.layer, len(found.died)) for found in layers],
        "died": pack(np.concatenate(died)),
        "weights": pack(connections.mean_weight.to_numpy("<f4")),
    }


def connection_maps(runs: Iterable[Run]) -> dict[str, Any]:
    """Pack runs in their order, as many as the budget of a page allows.

    Runs of the same network share their `targets`; each map has the index of its own.
    """
    targets: list[Any] = []
    maps: list[dict[str, Any]] = []
    size = 0
    for run in runs:
        packed = connection_map(run)
        own = packed.pop("targets")
        if own not in targets:
            size += 20 * sum(len(target["sources"]) for target in own)
        size += len(packed["died"]) + len(packed["weights"])
        if maps and size > BUDGET:
            break
        if own not in targets:
            targets.append(own)
        maps.append(packed | {"targets": targets.index(own)})
    return {"targets": targets, "maps": maps}


MOST_RANKS = 100_000  # of all moments on a page
MOST_MOMENTS = 60


def rank_lines(run: Run) -> dict[str, Any]:
    """Pack the ranks of a run's connections over time, of as many layers and moments as a page has room for.

    `ranks` has for each layer and moment what was added to the rank of each connection, groups × inputs, since
    the moment before: uint16, of which all lower bytes come first. `margins` are in thousandths, int16;
    −32768 if there is none. Empty if the run learns no groups.
    """
    layers = _that_fit(list(frames.layer_ranks(run)))
    if not layers:
        return {}
    shown = layers[0].spread(min(MOST_MOMENTS, MOST_RANKS // sum(found.rank[0].size for found in layers)))
    fates = {found.layer.label: found for found in frames.fates(run)}
    ranks = [np.diff(found.rank[shown], axis=0, prepend=0).astype("<u2").ravel() for found in layers]
    margins = [_thousandths(fates[found.layer.label].margin) for found in layers]
    return {
        "run": run.name,
        "epochs": [layers[0].epochs[place] for place in shown],
        "stages": [layers[0].stages[place] for place in shown],
        "targets": [_target(found.layer, found.rank.shape[1]) for found in layers],
        "ranks": pack(np.concatenate(ranks).view(np.uint8).reshape(-1, 2).T.copy()),
        "margins": pack(np.concatenate(margins)),
    }


def _that_fit(layers: list[frames.LayerRanks]) -> list[frames.LayerRanks]:
    """Return the last layers of the blocks, and of the others as many as there is room for, in order."""
    ends = {found.layer.block: found for found in layers}.values()
    kept: list[frames.LayerRanks] = []
    for found in sorted(layers, key=lambda found: found not in ends):
        size = sum(one.rank[0].size for one in [*kept, found])
        if not kept or size * min(len(found.epochs), MOST_MOMENTS) <= MOST_RANKS:
            kept.append(found)
    return sorted(kept, key=lambda found: found.layer.position)


def _thousandths(margins: np.ndarray) -> np.ndarray:
    clipped = np.nan_to_num(1000 * margins, nan=-32768, posinf=32767).clip(-32768, 32767)
    return clipped.round().astype("<i2").ravel()


def _target(layer: frames.ReadingLayer, groups: int) -> dict[str, Any]:
    sources = [[name, first, last] for name, first, last in layer.sources]
    return {"label": layer.label, "block": layer.block, "groups": groups, "sources": sources}
