"""The axes that a study varies, and the names of their levels."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from condense_core.config import CONNECTIVITIES, GROWTH_SCHEDULES, PRUNINGS, RunConfig
from condense_core.store import setting
from condense_core.tables import CRITERIA, GROUPINGS

AXES = (
    "grouping",
    "growth",
    "connectivity",
    "groups",
    "condense_factor",
    "group_lasso",
    "pruning",
    "criterion",
)
"""The axes that a study may cross; the first that it varies leads its figures."""

MATCH_TOLERANCE = 0.05  # of final MACs: beyond it costs are not called equal

LEVELS: dict[str, Collection[str]] = {
    "grouping": GROUPINGS,
    "growth": GROWTH_SCHEDULES,
    "connectivity": CONNECTIVITIES,
    "pruning": PRUNINGS,
    "criterion": CRITERIA,
}
"""The levels of the axes that have names, in the paper's order."""


def level_name(axis: str, level: Any) -> str:
    """Return a level of an axis as a label shows it."""
    if axis == "group_lasso":
        return f"λ={float(level):g}"
    return {"groups": "G={}", "condense_factor": "C={}"}.get(axis, "{}").format(level)


def fork_level(config: RunConfig) -> str | None:
    """Return the moment and the change of a fork, such as '2:criterion=random'; None for another run."""
    if (fork := config.fork) is None:
        return None
    changes = [f"{name}={setting(config, name)}" for name in fork.changed]
    changes += [f"mask_from={fork.mask_from}"] if fork.mask_from else []
    changes += ["skip_pruning"] if fork.skip_pruning else []
    return f"{fork.stage}:{'+'.join(changes)}"
