"""Numbers and tables as text, without the libraries that frames and figures take a second to load."""

from __future__ import annotations

from collections.abc import Sequence

import click

LEFT_COLUMNS = frozenset(
    {"run", "variant", "role", "state", "factor", "level", "against"}
    | {"model", "data", "source", "layer", "operator", "convention", "what is counted"}
    | {"study", "asks", "in the paper"}
)


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

    widths = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    head = [click.style(text, bold=True) for text in (title, line(columns))]
    click.echo("\n".join([*head, *map(line, rows)]))
