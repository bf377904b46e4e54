"""`python -m analysis.report`: the HTML report of studies, one file that fetches nothing."""

from __future__ import annotations

from pathlib import Path

import click

from .cli import bad_input, check_writable, main
from .reporting import render, write_page, write_report
from .text import say


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("studies", nargs=-1)
@click.option("--compare", nargs=2, metavar="STUDY STUDY", help="two studies side by side")
@click.option("--out", type=click.Path(path_type=Path), help="one file, nothing beside it")
@click.option("--runs", type=click.Path(path_type=Path), default="runs", show_default=True, help="run store")
@click.option(
    "--reports", type=click.Path(path_type=Path), default="reports", show_default=True, help="where reports go"
)
def report(
    studies: tuple[str, ...], compare: tuple[str, str] | None, out: Path | None, runs: Path, reports: Path
) -> None:
    """Write the HTML report of each STUDY in the run store: one file that fetches nothing.

    A single study's tables (CSV, Parquet) and figures (SVG) are written beside it, unless --out names a file.
    """
    from condense_core.store import RunStore

    with bad_input():
        if bool(studies) == bool(compare):
            raise ValueError("studies: name one or more, or two with --compare")
        names = compare or tuple(dict.fromkeys(studies))
        store = RunStore(runs)
        for name in names:
            store.read_study(name)
        check_writable(out.parent if out else reports)
        if out and out.is_dir():
            raise ValueError(f"out {str(out)!r}: is a folder; name a file")
    from .reporting import Chapter

    chapters = [Chapter(store, name) for name in names]
    if len(chapters) == 1 and not out:
        say(str(write_report(chapters[0], reports)))
        return
    joined = ("-against-" if compare else "-and-").join(names)
    say(str(write_page(out or reports / joined / "index.html", render(chapters, compare=bool(compare)))))


if __name__ == "__main__":
    main(report)
