"""Numbers and tables as text, without the libraries of frames and figures, which take a second to load."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Sequence
from contextlib import nullcontext, suppress

import click

LEFT_COLUMNS = frozenset(
    {"run", "parent", "fork", "variant", "role", "state", "factor", "level", "against", "finding"}
    | {"model", "data", "source", "layer", "operator", "convention", "what is counted"}
    | {"study", "asks", "in the paper", "requirement", "verdict", "evidence", "to mend it"}
)
MAX_LINE = 2000  # characters
DIGITS = 10  # significant ones of an exact figure: of its 17, processors round the last ones differently
FLOAT_FORMAT = f"%.{DIGITS}g"
JOINERS = "\u200c\u200d"  # Persian, Indian scripts and emoji need them; they change no order and hide nothing


def inert(text: str) -> str:
    """Escape every character that a terminal or a page would obey: ESC to \\x1b, overrides to \\u202e.

    These are all control, format, private, unassigned and surrogate characters, including line breaks.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char.isprintable() or char in JOINERS or unicodedata.category(char) == "Zs":
        return char
    return char.encode("unicode_escape").decode()


def one_line(message: object) -> str:
    """Return a message as one line of printable text, shortened if it is very long."""
    text = inert(" ".join(str(message).split()))
    return text if len(text) <= MAX_LINE else f"{text[:MAX_LINE]}…"


def say(text: str, err: bool = False, bold: bool = False) -> None:
    """Print text on stdout, or on stderr if that can be written, inert except for its line breaks."""
    lines = "\n".join(map(inert, text.split("\n")))
    with suppress(OSError, ValueError) if err else nullcontext():  # the work goes on without a reader
        click.echo(click.style(lines, bold=True) if bold and _shows_bold() else lines, err=err)


def _shows_bold() -> bool:
    return os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def count(value: float) -> str:
    """Format a number of operations in short: 76.6 k, 1.2 M."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g}"


def counted(number: int, noun: str) -> str:
    """Return a number of things in words: 1 run, 3 runs."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def interval(low: float, high: float, form: str = "+z.2f") -> str:
    """Format an interval as 'low to high'; '–' if there is none, because its ends are NaN."""
    return f"{low:{form}} to {high:{form}}" if math.isfinite(low) else "–"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout, as wide as it needs to be, so that a file gets all of it."""
    from rich.cells import cell_len

    def line(texts: Sequence[str]) -> str:
        padded = []
        for name, text, width in zip(columns, texts, widths, strict=True):
            space = " " * (width - cell_len(text))
            padded.append(text + space if name in LEFT_COLUMNS else space + text)
        return "  ".join(padded).rstrip()

    columns, rows = [*map(inert, columns)], [[*map(inert, row)] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    for text in (title, line(columns)):
        say(text, bold=True)
    for row in rows:
        say(line(row))


def duration(seconds: float) -> str:
    """Format seconds as 45 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
