"""Settings: frozen dataclasses that are checked by their annotations, and their plain forms (JSON, TOML)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, TypedDict, TypeVar, cast, get_args, get_origin, get_type_hints

from msgspec import Meta

from .files import find_fault, nearest, parse_json, parse_toml

Config = TypeVar("Config")
Item = TypeVar("Item")
Many = Annotated[tuple[Item, ...], Meta(min_length=1)]  # a list of one or more


@lru_cache
def hints_of(kind: Any) -> dict[str, Any]:
    """The annotation of every field of a class, with its valid range and its explanation."""
    return get_type_hints(kind, include_extras=True)


def _notes(hint: Any) -> Iterator[Meta]:
    """Every `Meta` in an annotation, from the outside in."""
    for part in get_args(hint):
        yield from [part] if isinstance(part, Meta) else _notes(part)


def name_in(table: Collection[str], explanation: str) -> Meta:
    """Make the `Meta` of a setting that is a name in a table, which may grow."""
    names = {"enum": list(table)}
    return Meta(description=explanation, extra={"one_of": table}, extra_json_schema=names)


def explanation_of(hint: Any) -> str:
    """Return the one-line explanation of a setting."""
    return next((note.description for note in _notes(hint) if note.description), "")


def valid_names(hint: Any) -> Collection[str]:
    """Return the valid values of a setting that has names: of a Literal or of a table (`name_in`)."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return _table(hint) or next(filter(None, map(valid_names, get_args(hint))), ())


def _table(hint: Any) -> Collection[str]:
    return next((note.extra["one_of"] for note in _notes(hint) if note.extra), ())


@lru_cache
def _shape(kind: Any) -> Any:
    """The settings of a class in the form that msgspec checks fastest: all at once."""
    return TypedDict(kind.__name__, hints_of(kind))  # type: ignore[operator]


@lru_cache
def _tables(kind: Any) -> dict[str, Collection[str]]:
    """The valid names of those settings that are names in a table."""
    return {name: table for name, hint in hints_of(kind).items() if (table := _table(hint))}


class Checked:
    """A dataclass whose fields are checked by their annotations. Lists become tuples."""

    def __post_init__(self) -> None:
        values, kind = vars(self), cast(Any, type(self))
        for name, value in values.items():
            if isinstance(value, set | frozenset):  # it has no order
                raise ValueError(f"{name} {value!r}: must be a list")
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        if fault := find_fault(values, _shape(kind)):
            raise ValueError(f"{fault.place[0]} {fault.text}")
        for name, valid in _tables(kind).items():
            value = values[name]
            for item in value if isinstance(value, tuple) else (value,):
                if item is not None and item not in valid:
                    raise ValueError(f"{name} {item!r}: {nearest(item, valid)}")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain JSON values."""
    return cast(dict[str, Any], json.loads(json.dumps(asdict(config))))


def from_dict(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Make a configuration from plain values. Raise ValueError for unknown, missing and bad settings."""
    known = hints_of(cast(Any, kind))
    for key in values:
        if key not in known:
            raise ValueError(f"unknown setting {key!r}: {nearest(key, known)}")
    for item in fields(cast(Any, kind)):
        if item.name not in values and item.default is MISSING:
            raise ValueError(f"{item.name}: missing from {kind.__name__}")
    parts = {
        key: from_dict(cast(Any, part), value)
        for key, value in values.items()
        for part in (known[key], *get_args(known[key]))  # a part, or one that may be None
        if is_dataclass(part) and isinstance(value, Mapping)
    }
    return kind(**{**values, **parts})


def to_json(config: Any) -> str:
    """Return a configuration as JSON text."""
    return json.dumps(to_dict(config), indent=2)


def to_toml(config: Any) -> str:
    """Return a configuration as TOML text. TOML has no null, so settings that are None are left out."""
    import tomli_w

    def without_none(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_none(item) for key, item in value.items() if item is not None}
        return value

    return tomli_w.dumps(without_none(to_dict(config)))


def from_json(kind: type[Config], text: str) -> Config:
    """Make a configuration from JSON text. Raise ValueError if the text or a setting is bad."""
    value = parse_json(text, "configuration")
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__}: a configuration must be a table of settings")
    return from_dict(kind, value)


def from_toml(kind: type[Config], text: str) -> Config:
    """Make a configuration from TOML text. Raise ValueError if the text or a setting is bad."""
    return from_dict(kind, parse_toml(text, "configuration"))
