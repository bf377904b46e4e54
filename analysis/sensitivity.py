"""`python -m analysis.sensitivity`: prune each layer of a run alone, and see what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .cli import (
    bad_input,
    check_writable,
    command,
    data_dir_option,
    json_option,
    main,
    reports_option,
    runs_option,
)
from .text import FLOAT_FORMAT, print_table, say

if TYPE_CHECKING:
    import pandas as pd


TOLERANCE_HELP = "points of error that pruning a layer alone may cost  (default: 1)"
IMAGES_HELP = "images to evaluate on  (default: all of the curves' split)"


@command
@click.argument("run")
@click.option("--tolerance", type=click.FloatRange(0), default=1.0, metavar="X", help=TOLERANCE_HELP)
@click.option("--images", type=click.IntRange(1), help=IMAGES_HELP)
@runs_option
@data_dir_option
@reports_option
@json_option
def sensitivity(
    run: str, tolerance: float, images: int | None, runs: Path, data_dir: Path, reports: Path, as_json: bool
) -> int:
    """Prune each layer of RUN alone, from the dense state that it kept, without training.

    Prints how much of its inputs each layer may lose for a tolerance, beside what the run took from all of them
    alike, and how much of each pruning step's error is the batch norms' statistics, which are taken anew on
    training images. Writes the curves as sensitivity.csv and sensitivity.svg, and without --images keeps all of
    it with the run, so that reports of its study show it.
    """
    with bad_input():
        from condense_core.store import RunStore

        from . import layer_sensitivity as taken, plots
        from .frames import allowed_shares, reading_layers
        from .networks import find_run

        found = find_run(run, RunStore(runs))
        folder = reports / f"sensitivity-{found.name}"
        check_writable(folder)
        if images:
            curves, steps = (
                take(found, data_dir, images) for take in (taken.layer_sensitivity, taken.statistics_at_steps)
            )
        else:
            curves, steps = taken.kept_sensitivity(found, data_dir)
        folder.mkdir(parents=True, exist_ok=True)
        curves.to_csv(folder / "sensitivity.csv", index=False, float_format=FLOAT_FORMAT)
        plots.sensitivity(curves).savefig(folder / "sensitivity.svg")
    model, may_lose = found.config.model, allowed_shares(curves, tolerance)
    factors = dict(zip((place.label for place in reading_layers(model)), model.layer_factors, strict=True))
    may_lose["taken"] = 1 - 1 / may_lose.target.map(factors)
    if as_json:
        record = {"run": found.name, "tolerance": tolerance, "folder": str(folder)}
        layers, pruned = may_lose.to_dict("records"), steps.drop(columns="run").to_dict("records")
        click.echo(json.dumps(record | {"layers": layers, "steps": pruned}, indent=1))
        return 0
    _print(found.name, tolerance, may_lose, steps)
    say(f"Curves: {folder}/sensitivity.svg, .csv")
    return 0


def _print(name: str, tolerance: float, may_lose: pd.DataFrame, steps: pd.DataFrame) -> None:
    rows = [
        [row.target, f"{row.share:.1%}", f"{row.cost:+.2f}", f"{row.taken:.1%}"]
        for row in may_lose.itertuples()
    ]
    title = f"{name}: what each layer may lose alone for {tolerance:g} points of error"
    print_table(title, ("layer", "share of inputs", "points", "the run took"), rows)
    say("The run took it in stages, and trained on.")
    errors = ["error_before", "error_after", "error_before_anew", "error_after_anew"]
    rows = [[row["stage"], *(f"{row[column]:.2f}" for column in errors)] for row in steps.to_dict("records")]
    columns = ("stage", "before", "after", "before, anew", "after, anew")
    print_table("Error (%) at each pruning step; anew: with the norms' statistics taken anew", columns, rows)


if __name__ == "__main__":
    main(sensitivity)
