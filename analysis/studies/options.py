"""Command line options and TOML files with a study's settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, get_type_hints

import click

from condense_core.validation import nearest

from .config import DEFAULTS, StudyConfig


class CommaList(click.ParamType):
    """Values parted by commas (numbers also by dashes, as papers write 14-14-14)."""

    name = "list"

    def __init__(self, kind: type):
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """The values as a tuple."""
        if not isinstance(value, str):
            return value
        parts = re.split(r",|(?<=\d)-", value) if self.kind is int else value.split(",")
        try:
            return tuple(self.kind(part.strip()) for part in parts if part.strip())
        except ValueError:
            wanted = "whole numbers, like 4-4-4" if self.kind is int else "numbers, like 0,1e-5"
            self.fail(f"{value!r} must be {wanted}")


def _option(item: Field[Any], hint: Any) -> Callable[[Any], Any]:
    """The command line option of a study's setting."""
    text, dashed = str(hint), item.name.replace("_", "-")
    default = DEFAULTS.get(item.name)
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    choices = ", ".join(item.metadata["one_of"])
    explanation = item.metadata["help"] + (f" [{choices}]" if choices else "")
    if shown is not None:
        explanation += f"  (default: {shown})"
    if hint is bool:
        return click.option(f"--{dashed}/--no-{dashed}", item.name, default=None, help=explanation)
    kind: Any = float if "float" in text else int if "int" in text else str
    if text.startswith("tuple["):
        kind = CommaList(kind)
    return click.option(f"--{dashed}", item.name, type=kind, metavar="X", default=None, help=explanation)


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for every setting of a study."""
    hints = get_type_hints(StudyConfig)
    for item in reversed(fields(StudyConfig)):
        command = _option(item, hints[item.name])(command)
    return command


def read_toml(path: Path) -> dict[str, Any]:
    """A study's settings from a TOML file, dashes or underscores alike. Raises ValueError or OSError."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such TOML file")
    from condense_core.files import LARGEST_TOML, parse_toml, read_bytes

    try:
        text = read_bytes(path, 4 * LARGEST_TOML).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not TOML ({error})") from error
    values = parse_toml(text, str(path))
    known = [item.name for item in fields(StudyConfig)]
    settings = {key.replace("-", "_"): value for key, value in values.items()}
    for key in settings:
        if key not in known:
            raise ValueError(f"{path}: unknown setting {key!r}: {nearest(key, known)}")
    return settings
