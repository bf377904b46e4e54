"""`python -m analysis.report`: the HTML report of studies, one file that fetches nothing."""

from __future__ import annotations

import json
from pathlib import Path

import click

from . import reporting
from .cli import (
    bad_input,
    check_writable,
    command,
    json_option,
    main,
    meaningful_option,
    reports_option,
    runs_option,
)
from .margin import check_meaningful
from .text import say


@command
@click.argument("studies", nargs=-1)
@click.option("--compare", nargs=2, metavar="STUDY STUDY", help="show two studies side by side")
@click.option("--out", type=click.Path(path_type=Path), help="write this one file and no others")
@runs_option
@reports_option
@meaningful_option
@json_option
def report(
    studies: tuple[str, ...],
    compare: tuple[str, str] | None,
    out: Path | None,
    runs: Path,
    reports: Path,
    meaningful: float,
    as_json: bool,
) -> None:
    """Write the HTML report of each STUDY in the run store: one file that fetches nothing.

    The tables (CSV, Parquet) and figures (SVG) of a single study are written next to its report, unless --out
    names a file.
    """
    from condense_core.store import RunStore

    with bad_input():
        if bool(studies) == bool(compare):
            raise ValueError("studies: name one or more, or two with --compare")
        check_meaningful(meaningful)
        names = compare or tuple(dict.fromkeys(studies))
        store = RunStore(runs)
        for name in names:
            store.read_study(name)
        check_writable(out.parent if out else reports)
        if out and out.is_dir():
            raise ValueError(f"out {str(out)!r}: is a folder; name a file")
    found = [reporting.StudyReport(store, name, meaningful) for name in names]
    if len(found) == 1 and not out:
        page = reporting.write_report(found[0], reports)
    else:
        joined = ("-against-" if compare else "-and-").join(names)
        path = out or reports / joined / "index.html"
        page = reporting.write_page(path, reporting.render(found, compare=bool(compare)))
    if as_json:
        click.echo(json.dumps({"report": str(page), "studies": [study.plain for study in found]}, indent=1))
    else:
        say(str(page))


if __name__ == "__main__":
    main(report)
