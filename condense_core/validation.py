"""Settings of frozen dataclasses: their valid values and explanations, and their plain forms (JSON, TOML)."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, asdict, field, fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast, get_type_hints
from unicodedata import category

from .files import parse_json, parse_toml

Config = TypeVar("Config")
LARGEST = sys.float_info.max  # of any number: a whole one beyond it would overflow where it is divided


MOST_NAMED = 24


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint at what was meant by `name`: the closest valid names, or as many as a line takes."""
    valid = list(valid)
    if close := difflib.get_close_matches(name, valid, n=3):
        likeness = [difflib.SequenceMatcher(None, other, name).ratio() for other in close]
        best = sorted(other for other, like in zip(close, likeness, strict=True) if like == likeness[0])
        return f"did you mean {' or '.join(map(repr, best))}?"
    more = f" … ({len(valid)} in all)" if valid[MOST_NAMED:] else ""
    return f"valid: {', '.join(valid[:MOST_NAMED])}{more}"


def setting(
    default: Any = MISSING,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    one_of: tuple[str, ...] = (),
    may_be_empty: bool = False,
    later: bool = False,
    help: str = "",
) -> Any:
    """A dataclass field that carries its valid range and its one-line explanation.

    One that came `later` leaves the identity of older configurations as it was.
    """
    rules = {"at_least": at_least, "at_most": at_most, "below": below, "one_of": one_of}
    return field(
        default=default, metadata={**rules, "may_be_empty": may_be_empty, "later": later, "help": help}
    )


def _valid_range(rules: Mapping[str, Any], kind: str) -> str:
    bounds = [
        words.format(rules[rule])
        for rule, words in (("at_least", "at least {}"), ("at_most", "at most {}"), ("below", "below {}"))
        if rules[rule] is not None
    ]
    return " ".join([kind, " and ".join(bounds)]).strip()


def _check_number(name: str, value: Any, kind: type, rules: Mapping[str, Any]) -> None:
    numeric = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if (
        not numeric
        or not -LARGEST <= value <= LARGEST
        or (rules["at_least"] is not None and value < rules["at_least"])
        or (rules["at_most"] is not None and value > rules["at_most"])
        or (rules["below"] is not None and value >= rules["below"])
    ):
        expected = _valid_range(rules, "a whole number" if kind is int else "a number")
        raise ValueError(f"{name} {value!r}: must be {expected}")


def check_setting(name: str, value: Any, hint: Any, rules: Mapping[str, Any]) -> None:
    """Raise ValueError unless `value` is of the annotated type `hint` and within `rules` (see `setting`)."""
    text = str(hint)
    if value is None and "None" in text:
        return
    if text.startswith("tuple["):
        if not isinstance(value, tuple) or (not value and not rules["may_be_empty"]):
            raise ValueError(f"{name} {value!r}: must be a list of one or more")
        for item in value:
            check_setting(name, item, int if "int" in text else float if "float" in text else str, rules)
        if len(set(value)) < len(value) and rules["one_of"]:
            raise ValueError(f"{name} {value!r}: names one twice")
    elif rules["one_of"]:
        if value not in rules["one_of"]:
            raise ValueError(f"{name} {value!r}: {nearest(str(value), rules['one_of'])}")
    elif hint is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{name} {value!r}: must be true or false")
    elif "int" in text or "float" in text:
        _check_number(name, value, float if "float" in text else int, rules)
    elif not isinstance(value, str) or not value or any(category(char) in ("Cc", "Cs") for char in value):
        raise ValueError(f"{name} {value!r}: must be text without control characters")


@lru_cache
def _type_hints(kind: type) -> dict[str, Any]:
    """`get_type_hints`, which compiles every annotation, once for each class."""
    return get_type_hints(cast(Any, kind))


class Checked:
    """Checks every field of a dataclass against its annotation and its `setting`."""

    def __post_init__(self) -> None:
        hints = _type_hints(cast(Any, type(self)))
        for item in fields(cast(Any, self)):
            if item.metadata:
                check_setting(item.name, getattr(self, item.name), hints[item.name], item.metadata)


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values."""
    return cast(dict[str, Any], json.loads(json.dumps(asdict(config))))


def identity(config: Any) -> dict[str, Any]:
    """`to_dict` without the settings that came later, where they are at their default."""
    values: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            values[item.name] = identity(value)
        elif not (item.metadata.get("later") and value == item.default):
            values[item.name] = list(value) if isinstance(value, tuple) else value
    return values


def from_dict(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A configuration from plain values. Raises ValueError for unknown, missing and bad settings."""
    known = {item.name: item for item in fields(cast(Any, kind))}
    hints = _type_hints(cast(Any, kind))
    for key in values:
        if key not in known:
            raise ValueError(f"unknown setting {key!r}: {nearest(key, known)}")
    for name, item in known.items():
        if name not in values and _is_required(item):
            raise ValueError(f"{name}: missing from {kind.__name__}")
    return kind(**{key: _convert(key, value, hints[key]) for key, value in values.items()})


def _is_required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _convert(key: str, value: Any, hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Checked):
        if not isinstance(value, Mapping):
            raise ValueError(f"{key} {value!r}: must be a table of settings")
        return _part(hint, value)
    return tuple(value) if isinstance(value, list) else value


def _part(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """`from_dict`; the runs of a study share their parts, which are then checked once."""
    try:
        text = json.dumps(values)
    except (TypeError, ValueError):  # what JSON does not have
        return from_dict(kind, values)
    return cast(Config, _known_part(cast(Any, kind), text))


@lru_cache(maxsize=1024)
def _known_part(kind: type[Any], text: str) -> Any:
    return from_dict(kind, json.loads(text))


def to_json(config: Any) -> str:
    """A configuration as JSON text."""
    return json.dumps(to_dict(config), indent=2)


def to_toml(config: Any) -> str:
    """A configuration as TOML text; TOML has no null, so what is None is left out."""
    import tomli_w

    def without_none(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_none(item) for key, item in value.items() if item is not None}
        return value

    return tomli_w.dumps(without_none(to_dict(config)))


def from_json(kind: type[Config], text: str) -> Config:
    """A configuration from JSON text. Raises ValueError where the text or a setting is bad."""
    return from_dict(kind, _table(parse_json(text, "configuration")))


def from_toml(kind: type[Config], text: str) -> Config:
    """A configuration from TOML text. Raises ValueError where the text or a setting is bad."""
    return from_dict(kind, parse_toml(text, "configuration"))


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{type(value).__name__}: a configuration must be a table of settings")
    return value
