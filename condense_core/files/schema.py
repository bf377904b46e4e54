"""Check plain values against annotations: msgspec finds a fault, this file says what would be valid."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

MAX_NUMBER = 4e38  # what float32 holds; beyond, axes and sums overflow
MAX_WHOLE = 2**63 - 1  # what a column of whole numbers holds
MAX_NAMES = 24  # that an error lists
MAX_SHOWN = 60  # characters of a bad value

Number = Annotated[float, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
NonNegative = Annotated[float, Meta(ge=0, le=MAX_NUMBER)]
Percent = Annotated[float, Meta(ge=0, le=100)]
NonNegativeInt = Annotated[int, Meta(ge=0, le=MAX_WHOLE)]
PositiveInt = Annotated[int, Meta(ge=1, le=MAX_WHOLE)]
Text = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+$(?!\n)")]  # no control characters


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a hint at what was meant by `name`: the closest valid names, or as many as a line takes."""
    import difflib  # late: --help does not need it

    valid = list(valid)
    if close := difflib.get_close_matches(name, valid, n=3):
        likeness = [difflib.SequenceMatcher(None, other, name).ratio() for other in close]
        best = sorted(other for other, like in zip(close, likeness, strict=True) if like == likeness[0])
        return f"did you mean {' or '.join(map(repr, best))}?"
    more = f" … ({len(valid)} in all)" if valid[MAX_NAMES:] else ""
    return f"valid: {', '.join(valid[:MAX_NAMES])}{more}"


class Fault(NamedTuple):
    """Where a value is wrong, names and indices from the outside in; the wrong part and what is valid."""

    place: tuple[str | int, ...]
    text: str


def check_record(value: Any, kind: Any, where: str) -> Any:
    """Return `value` if it is of the annotated type `kind`. Raise ValueError that says where it is not."""
    if fault := find_fault(value, kind):
        place = "".join(f"[{step}]" if isinstance(step, int) else f": {step}" for step in fault.place)
        raise ValueError(f"{where}{place} {fault.text}")
    return value


def find_fault(value: Any, kind: Any) -> Fault | None:
    """Find where `value` is not of the annotated type `kind`; None if it is."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
    else:
        return None
    shape = msgspec.inspect.type_info(kind)
    place: list[str | int] = []
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        place.append(name or int(index))
        value, shape = value[place[-1]], _inner(shape, name)
    if missing := re.search("missing required field `(.*)`", text):
        return Fault((*place, missing[1]), "is missing")
    return Fault(tuple(place), f"{shorten(value)}: {_valid(_bare(shape), value)}")


def _bare(shape: Any) -> Any:
    """A type without its explanation, and without its null."""
    if isinstance(shape, msgspec.inspect.Metadata):
        return _bare(shape.type)
    if isinstance(shape, msgspec.inspect.UnionType):
        return next(_bare(part) for part in shape.types if not isinstance(part, msgspec.inspect.NoneType))
    return shape


def _inner(shape: Any, name: str) -> Any:
    """The type of a field, or of the items of a list."""
    shape = _bare(shape)
    return next(field.type for field in shape.fields if field.name == name) if name else shape.item_type


def _valid(shape: Any, value: Any) -> str:
    """What would be valid instead of a value, in words."""
    kind = type(shape).__name__
    if kind == "LiteralType":
        return nearest(str(value), shape.values)
    if kind in ("IntType", "FloatType"):
        return " ".join(["must be", "a whole number" if kind == "IntType" else "a number", *_range(shape)])
    if kind in ("ListType", "VarTupleType", "TupleType"):
        more = " of one or more" if getattr(shape, "min_length", None) else ""
        return f"must be a list{more}{_like(shape, value)}"
    if kind == "StrType":
        return f"must be text{' without control characters' if shape.pattern else ''}"
    return f"must be {'true or false' if kind == 'BoolType' else 'a table'}"


def _like(shape: Any, value: Any) -> str:
    """An example of a list of plain items: of the value itself if it could be one."""
    item = _bare(shape.item_type) if hasattr(shape, "item_type") else None
    examples = {
        "IntType": [4, 4, 4],
        "FloatType": [0.1],
        "StrType": [value] if isinstance(value, str) else ["a", "b"],
    }
    example = examples.get(type(item).__name__)
    return f", like {shorten(example)}" if example else ""


def _range(shape: Any) -> list[str]:
    """The bounds of a number, but not those of every number."""
    bounds = [("at least", shape.ge), ("at most", shape.le), ("below", shape.lt)]
    texts = [f"{words} {bound:.10g}" for words, bound in bounds if bound is not None and abs(bound) < MAX_WHOLE]
    return [" and ".join(texts)] if texts else []


def shorten(value: Any) -> str:
    """Return a value as an error message quotes it."""
    if isinstance(value, int) and abs(value) > MAX_WHOLE:
        return "of very many digits"
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
