"""Numbers and tables as text, without the libraries that frames and figures take a second to load."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import click

LEFT_COLUMNS = frozenset(
    {"run", "variant", "role", "state", "factor", "level", "against"}
    | {"model", "data", "source", "layer", "operator", "convention", "what is counted"}
    | {"study", "asks", "in the paper"}
)


JOINERS = "\u200c\u200d"  # of Persian, of Indian scripts, of emoji: they change no order and hide nothing


def inert(text: str) -> str:
    """`text` with what a terminal or a page would obey shown as an escape: ESC as \\x1b, overrides as \\u202e.

    That is every control, format, private, unassigned and surrogate character, line breaks among them.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char.isprintable() or char in JOINERS or unicodedata.category(char) == "Zs":
        return char
    return char.encode("unicode_escape").decode()


def say(text: str, err: bool = False, bold: bool = False) -> None:
    """Print text on stdout or stderr, inert but for its line breaks."""
    lines = "\n".join(map(inert, text.split("\n")))
    click.echo(click.style(lines, bold=True) if bold else lines, err=err)


def count(value: float) -> str:
    """A number of operations, short: 76.6 k, 1.2 M."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g}"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout: as wide as it needs to be, so that nothing of it is cut in a file."""
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
    """Seconds as 45 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
