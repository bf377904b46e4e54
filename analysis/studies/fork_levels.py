"""A study's forks as text: the stage, a colon, and the changes with + between them."""

from __future__ import annotations

from typing import Any

from condense_core.files import nearest
from condense_core.store import CHANGES, DECISIONS

TEXTS = ("criterion", "pruning", "mask_from")


def parse_fork(level: str) -> tuple[int, dict[str, Any]]:
    """Return stage and changes of a level. Raise ValueError if it is none.

    >>> parse_fork("2:criterion=random+group_lasso=0")
    (2, {'criterion': 'random', 'group_lasso': 0.0})
    >>> parse_fork("3:skip-pruning")
    (3, {'skip_pruning': True})
    """
    stage, colon, changes = level.partition(":")
    if not (stage.strip().isdecimal() and colon and changes.strip()):
        raise ValueError(f"fork {level!r}: must be a stage and a change, like 2:criterion=random")
    return int(stage), dict(_change(part.strip(), level) for part in changes.split("+"))


def _change(text: str, level: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in (*CHANGES, *DECISIONS):
        raise ValueError(f"fork {level!r}: unknown change {name!r}: {nearest(name, (*CHANGES, *DECISIONS))}")
    if name == "skip_pruning" and not equals:
        return name, True
    kind = str if name in TEXTS else int if name == "condense_factor" else float
    try:
        return name, kind(value.strip() or "none")
    except ValueError:
        raise ValueError(f"fork {level!r}: {name} {value!r} must be a number") from None
