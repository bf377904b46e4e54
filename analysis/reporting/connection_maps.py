"""Pack the connections of runs for the report's interactive map."""

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
    layers = list(frames.deaths(run))
    connections = frames.connections(run)
    died = [np.where(died < 0, ALIVE, died).astype(np.uint8).ravel() for _, died, _ in layers]
    return {
        "run": run.name,
        "stages": list(dict.fromkeys(connections.stage)),
        "targets": [
            {
                "label": layer.label,
                "block": layer.columns["block"],
                "groups": len(died),
                "sources": [[name, first, last] for name, first, last in layer.sources],
            }
            for layer, died, _ in layers
        ],
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
