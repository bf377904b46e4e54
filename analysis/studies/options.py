"""The settings of a study as command line options and as a TOML file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import click

from condense_core.files import MAX_TOML, nearest, parse_toml, read_text
from condense_core.validation import explanation_of, hints_of, valid_names

from .config import DEFAULTS, StudyConfig
from .tunable import TUNABLE


class TuneList(click.ParamType):
    """A setting of the recipe and the values to try: NAME=VALUE,VALUE."""

    name = "tune"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[Any, ...]]:
        """Return the name and the values."""
        name, equals, listed = str(value).partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            self.fail(f"{value!r} must be a setting and its values, like learning_rate=0.05,0.1")
        if name not in TUNABLE:
            self.fail(f"{name!r}: {nearest(name, TUNABLE)}")
        try:
            return name, CommaList(TUNABLE[name]).split(listed)
        except ValueError:
            numbers = "whole numbers" if TUNABLE[name] is int else "numbers"
            self.fail(f"{name} {listed!r} must be {numbers} with commas between them")


def _as_table(ctx: click.Context, param: click.Parameter, lists: Any) -> dict[str, tuple[Any, ...]] | None:
    """Return the lists of a repeated option by their names. Raise click.UsageError if one is given twice."""
    for name, _ in lists:
        if sum(name == other for other, _ in lists) > 1:
            raise click.BadParameter(f"{name} is given twice", ctx, param)
    return dict(lists) or None


WANTED = {
    int: "whole numbers, like 4-4-4",
    float: "numbers, like 0,1e-5",
    str: "names with one comma between them",
}


class CommaList(click.ParamType):
    """Values separated by commas (numbers also by dashes, as papers write 14-14-14)."""

    name = "list"

    def __init__(self, kind: type):
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Return the values as a tuple."""
        if not isinstance(value, str):
            return value
        try:
            return self.split(value)
        except ValueError:
            self.fail(f"{value!r} must be {WANTED[self.kind]}")

    def split(self, text: str) -> tuple[Any, ...]:
        """Return the values in a text, none if it is blank. Raise ValueError for an empty or wrong entry."""
        if not text.strip():
            return ()
        parts = [part.strip() for part in re.split(r",|(?<=\d)-" if self.kind is int else ",", text)]
        if not all(parts):
            raise ValueError(f"{text!r}: has an empty entry")
        return tuple(map(self.kind, parts))


def _option(name: str, plain: Any, hint: Any) -> Callable[[Any], Any]:
    """Make the command line option of a study's setting from its plain type and its whole annotation."""
    if name == "tune":
        text = f"{explanation_of(hint)} [{', '.join(TUNABLE)}]"
        option = partial(click.option, type=TuneList(), multiple=True, callback=_as_table)
        return option("--tune", metavar="X=A,B", help=text)
    dashed, default = name.replace("_", "-"), DEFAULTS.get(name)
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    explanation = explanation_of(hint) + (f" [{', '.join(names)}]" if (names := valid_names(hint)) else "")
    if shown is not None:
        explanation += f"  (default: {shown})"
    if plain is bool:
        return click.option(f"--{dashed}/--no-{dashed}", name, default=None, help=explanation)
    kinds: list[Any] = [kind for kind in (float, int) if kind in (plain, *get_args(plain))] or [str]
    kind = CommaList(kinds[0]) if get_origin(plain) is tuple else kinds[0]
    return click.option(f"--{dashed}", name, type=kind, metavar="X", default=None, help=explanation)


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every setting of a study."""
    plain = get_type_hints(StudyConfig)
    for name, hint in reversed(hints_of(StudyConfig).items()):
        command = _option(name, plain[name], hint)(command)
    return command


def read_toml(path: Path) -> dict[str, Any]:
    """Read a study's settings from a TOML file, with dashes or underscores. Raise ValueError or OSError."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such TOML file")
    values = parse_toml(read_text(path, 4 * MAX_TOML), str(path))
    known = hints_of(StudyConfig)
    settings = {key.replace("-", "_"): value for key, value in values.items()}
    for key in settings:
        if key not in known:
            raise ValueError(f"{path}: unknown setting {key!r}: {nearest(key, known)}")
    if isinstance(tune := settings.get("tune"), dict):
        settings["tune"] = {key.replace("-", "_"): value for key, value in tune.items()}
    return settings


@contextmanager
def naming_file(path: Path | None, names: Collection[str]) -> Iterator[None]:
    """Name a TOML file in errors that begin with one of the settings that it gives."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        setting = re.match(r"\w+", str(error))
        if path is None or setting is None or setting[0] not in names:
            raise
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{path}: {error}") from error
