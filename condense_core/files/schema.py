"""Check the shape of a record read from JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LARGEST_NUMBER = 4e38  # what float32 holds; beyond, axes and sums overflow


LARGEST_WHOLE = 2**63 - 1  # what a column of whole numbers holds


def check_record(value: Any, shape: Any, where: str) -> Any:
    """`value` where it has a shape. Raises ValueError that says where it has not.

    A shape is a type, a tuple of types (None among them for null), a range of numbers, a frozenset of valid
    values, a list of one shape, or a dict of shapes by name, of which those that end in '?' may be missing;
    more names may be there.
    Numbers are finite and at most LARGEST_NUMBER or LARGEST_WHOLE, bool is no number.
    """
    if fault := _fault(value, shape):
        raise ValueError(f"{where}{fault}")
    return value


def _fault(value: Any, shape: Any) -> str:
    """Where `value` has not a shape, and what would be valid; empty where it has."""
    if isinstance(shape, dict):
        return _fault_in_table(value, shape) if type(value) is dict else _wrong(value, (dict,))
    if isinstance(shape, list):
        return _fault_in_list(value, shape[0]) if type(value) in (list, tuple) else _wrong(value, (list,))
    if isinstance(shape, Between):
        return shape.fault(value)
    if isinstance(shape, frozenset):
        valid = isinstance(value, str) and value in shape
        return "" if valid else f" {_short(value)}: must be one of {', '.join(sorted(shape))}"
    kinds = shape if isinstance(shape, tuple) else (shape,)
    return "" if _is_one_of(value, kinds) else _wrong(value, kinds)


def _fault_in_table(value: dict[Any, Any], shape: dict[str, Any]) -> str:
    for name, inner in shape.items():
        key = name.removesuffix("?")
        if key in value:
            if fault := _fault(value[key], inner):
                return f": {key}{fault}"
        elif key == name:
            return f": {key} is missing"
    return ""


def _fault_in_list(value: Sequence[Any], shape: Any) -> str:
    faults = ((place, _fault(item, shape)) for place, item in enumerate(value))
    return next((f"[{place}]{fault}" for place, fault in faults if fault), "")


def _is_one_of(value: Any, kinds: tuple[Any, ...]) -> bool:
    if value is None:
        return None in kinds
    kind = type(value)
    if kind in (int, float):
        return (kind in kinds or float in kinds) and abs(value) <= LARGEST[kind]
    return kind in kinds


def _wrong(value: Any, kinds: tuple[Any, ...]) -> str:
    words = " or ".join(dict.fromkeys(WORDS.get(kind, "true or false") for kind in kinds))
    return f" {_short(value)}: must be {words}"


@dataclass(frozen=True)
class Between:
    """The shape of a number, whole or not, within a range; `or_none` allows null."""

    low: float
    high: float = LARGEST_NUMBER
    kind: type = float
    or_none: bool = False

    def fault(self, value: Any) -> str:
        """What is wrong with a value; empty where nothing is."""
        if value is None and self.or_none:
            return ""
        if _is_one_of(value, (self.kind,)) and self.low <= value <= self.high:
            return ""
        top = f" and at most {self.high:g}" if self.high < LARGEST_NUMBER else ""
        return f" {_short(value)}: must be {WORDS[self.kind]} of at least {self.low:g}{top}"


LARGEST: dict[type, float] = {int: LARGEST_WHOLE, float: LARGEST_NUMBER}


WORDS: dict[Any, str] = {
    dict: "a table",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    None: "null",
}


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        return "of very many digits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
