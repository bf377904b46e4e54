"""`python -m analysis.fork`: leave runs at a stage's entry, under another decision."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click

from condense_core.config import ModelConfig, RecipeConfig
from condense_core.files import plain_name
from condense_core.store import CHANGES, Run, RunStore
from condense_core.validation import explanation_of, hints_of

from . import engines, studies
from .axes import fork_level
from .cli import (
    bad_input,
    check_writable,
    command,
    data_dir_option,
    exit_status,
    json_option,
    main,
    runs_option,
)
from .text import print_table, say

COLUMNS = ("run", "parent", "fork", "state", "parent's test error %", "test error %")


def change_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for every setting that a fork may change."""
    hints = hints_of(ModelConfig) | hints_of(RecipeConfig)
    for name in reversed(CHANGES):
        kinds: list[Any] = [kind for kind in (float, int) if kind in _kinds(hints[name])] or [str]
        dashed, text = name.replace("_", "-"), explanation_of(hints[name])
        function = click.option(f"--{dashed}", name, type=kinds[0], metavar="X", help=text)(function)
    return function


def _kinds(hint: Any) -> set[Any]:
    """Return the plain types in an annotation."""
    return {hint}.union(*map(_kinds, get_args(hint)))


@command
@click.argument("parents", nargs=-1, required=True, metavar="RUN...")
@click.option("--stage", type=int, required=True, metavar="N", help="at whose entry the fork leaves its parent")
@change_options
@click.option("--mask-from", metavar="RUN", help="take the masks of that run from the stage on")
@click.option("--skip-pruning", is_flag=True, help="prune nothing at the stage; the next one catches up")
@click.option("--name", help="name of the study of parents and forks  (default: forks- and the variant)")
@click.option("--jobs", type=click.IntRange(1), help="runs at once  (default: cores / threads)")
@runs_option
@data_dir_option
@json_option
def fork(
    parents: tuple[str, ...],
    stage: int,
    mask_from: str | None,
    name: str | None,
    jobs: int | None,
    runs: Path,
    data_dir: Path,
    as_json: bool,
    **changes: Any,
) -> int:
    """Start new runs from the states that each RUN kept at a stage's entry, under another decision.

    What came before is not trained again. A fork is a run like any other; parents and forks are a study, so
    that `python -m analysis.report` compares them, seed by seed. Run again, it skips what is done and resumes
    what is not.
    """
    from .networks import find_run

    with ExitStack() as resources:
        with bad_input():
            check_writable(runs)
            store = RunStore(runs)
            changes["mask_from"] = mask_from and find_run(mask_from, store).name
            found = [find_run(parent, store) for parent in dict.fromkeys(parents)]
            configs = [run.fork(stage, **changes) for run in found]
            pairs = list(zip((run.config for run in found), configs, strict=True))
            study = plain_name(name or studies.forks_name(pairs[0][0]), "name")
            engine = resources.enter_context(engines.connect("processes"))
            launch = engines.Launch(engine, configs, store, data_dir)
            enter = partial(studies.join_forks, name=study, pairs=pairs)
            training = resources.enter_context(launch.prepared(enter))
        outcomes = training.on_terminal(study, jobs)
    _print(study, found, [store.run(config) for config in configs], store, as_json)
    return exit_status(outcomes, study, store)


def _print(study: str, parents: list[Run], forks: list[Run], store: RunStore, as_json: bool) -> None:
    """Print each fork with its state and its test error beside its parent's."""
    rows = [_row(*pair) for pair in zip(parents, forks, strict=True)]
    if as_json:
        click.echo(json.dumps({"study": study, "forks": rows}, indent=1))
        return
    texts = [
        [
            "–" if value is None else f"{value:.2f}" if isinstance(value, float) else value
            for value in row.values()
        ]
        for row in rows
    ]
    print_table(study, COLUMNS, texts)
    say(f"Compared with their parents: {studies.report_command(study, store)}")


def _row(parent: Run, fork: Run) -> dict[str, Any]:
    errors = [run.result.get("test_error_percent") for run in (parent, fork)]
    return {
        "run": fork.name,
        "parent": parent.name,
        "fork": fork_level(fork.config),
        "state": fork.status["state"],
        "parent_error_percent": errors[0],
        "error_percent": errors[1],
    }


if __name__ == "__main__":
    main(fork)
