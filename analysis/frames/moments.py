"""The moments of a run at which the importance of its connections is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from condense_core.store import Run, by_layer

Arrays = dict[str, np.ndarray]  # by layer: (groups, in_channels)


@dataclass(frozen=True)
class Moment:
    """The importance Σ|W| of a run's connections at a moment, and which of them are alive right before it.

    `epoch` is in epochs done. `stage` is the stage that starts then and prunes, None if none does.
    """

    epoch: float
    stage: int | None
    importance: Arrays
    alive: Arrays


def moments(run: Run) -> Iterator[Moment]:
    """Yield the moments of a run in order: the start of every stage, every epoch that was recorded, the end.

    Runs of earlier versions, and those with `importance_every` 0, have the stages and the end alone.
    """
    known = [_of_stage(run, record) for record in run.stages()]
    epochs = {epoch for epoch, *_ in known}
    known += [(row.epoch, None, row.layers, {}) for row in run.importances() if row.epoch not in epochs]
    alive: Arrays = {}
    for epoch, stage, importance, masks in sorted(known, key=lambda moment: moment[0]):
        alive = alive or {name: np.ones(array.shape, bool) for name, array in importance.items()}
        yield Moment(epoch, stage, importance, alive)
        alive = masks or alive


def _of_stage(run: Run, record: Mapping[str, Any]) -> tuple[float, int | None, Arrays, Arrays]:
    arrays = run.stage_arrays(record)
    importance, masks = (by_layer(kind, arrays) for kind in ("importance", "mask"))
    return record["epoch"], record["stage"], importance, masks
