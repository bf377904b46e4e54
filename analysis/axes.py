"""The axes that a study varies, and the names of their levels."""

from __future__ import annotations

from typing import Any

from condense_core.config import CONNECTIVITIES, CRITERIA, GROUPINGS, GROWTH_SCHEDULES, PRUNINGS

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
"""What a study may cross; the first that it varies is the one that its figures lead with."""


MATCH_TOLERANCE = 0.05  # of final MACs: beyond it costs are not called equal


LEVELS: dict[str, tuple[str, ...]] = {
    "grouping": GROUPINGS,
    "growth": GROWTH_SCHEDULES,
    "connectivity": CONNECTIVITIES,
    "pruning": PRUNINGS,
    "criterion": CRITERIA,
}
"""Levels of the axes that have names, in the paper's order."""


def level_name(axis: str, level: Any) -> str:
    """A level of an axis as a label has it."""
    if axis == "group_lasso":
        return f"λ={float(level):g}"
    return {"groups": "G={}", "condense_factor": "C={}"}.get(axis, "{}").format(level)
