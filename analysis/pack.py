"""`python -m analysis.pack`: studies without weights, in one file that is small enough for a repository."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .cli import bad_input, check_writable, command, json_option, main, runs_option
from .text import say


@command
@click.argument("studies", nargs=-1)
@click.option("--to", type=click.Path(path_type=Path), required=True, help="folder of the packed store")
@runs_option
@json_option
def pack(studies: tuple[str, ...], to: Path, runs: Path, as_json: bool) -> None:
    """Pack each STUDY, by default all, into one file: all that reports read, without weights and checkpoints.

    Every command opens the folder like a run store and unpacks the file there, once. A report from it is the
    same byte for byte if all studies of the store are packed; one of its questions is about other studies.
    """
    from condense_core import store as stores

    with bad_input():
        store = stores.RunStore(runs)
        names = tuple(dict.fromkeys(studies)) or tuple(path.stem for path in store.study_files())
        if not names:
            raise ValueError(f"runs {str(runs)!r}: has no study")
        check_writable(to)
        stores.RunStore(to)
        packed = stores.pack(store, names, to)
    counted = {"studies": packed.studies, "runs": packed.runs}
    if as_json:
        click.echo(json.dumps({"packed": str(packed.path), "bytes": packed.size, **counted}, indent=1))
    else:
        texts = ", ".join(f"{name}: {number}" for name, number in counted.items())
        say(f"{packed.path}  ({packed.size / 1e6:.2f} MB; {texts})")


if __name__ == "__main__":
    main(pack)
