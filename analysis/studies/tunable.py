"""What can be tuned: the numeric settings of the recipe, and lists of their values."""

from typing import Any, TypedDict, get_args, get_type_hints

from condense_core.config import RecipeConfig
from condense_core.files import find_fault, nearest
from condense_core.validation import Many, hints_of


def _kind(plain: Any) -> type | None:
    """Return the kind of number that a setting of this type is, or None."""
    return next((kind for kind in (float, int) if kind in (plain, *get_args(plain))), None)


TUNABLE = {name: kind for name, plain in get_type_hints(RecipeConfig).items() if (kind := _kind(plain))}
"""The settings that can be tuned, with their kinds of number."""

_LISTS: dict[str, Any] = {name: Many[hints_of(RecipeConfig)[name]] for name in TUNABLE}  # type: ignore[misc]
Tune: Any = TypedDict("Tune", _LISTS, total=False)  # type: ignore[misc]
"""Lists of values, each by the name of its setting."""


def check_tune(lists: Any) -> dict[str, tuple[Any, ...]]:
    """Return the values to try for each setting. Raise ValueError for a bad name, list or value."""
    if not isinstance(lists, dict):
        raise ValueError(f"tune {lists!r}: must be a table of settings and their values")
    return {name: _checked(name, values) for name, values in lists.items()}


def _checked(name: Any, values: Any) -> tuple[Any, ...]:
    if name not in TUNABLE:
        raise ValueError(f"tune {name!r}: {nearest(str(name), TUNABLE)}")
    shown = list(values) if isinstance(values, tuple) else values
    if shown and isinstance(shown, list) and (fault := find_fault({name: values}, Tune)):
        raise ValueError(f"tune {name} {fault.text}")
    if not isinstance(shown, list) or len(shown) < 2:
        raise ValueError(f"tune {name} {shown!r}: must be a list of two or more values to choose from")
    if len(set(values)) < len(values):
        raise ValueError(f"tune {name} {shown!r}: names one twice")
    return tuple(value if value is None else TUNABLE[name](value) for value in values)
