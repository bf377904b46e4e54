"""`python -m analysis.cost`: the cost of a network, under every convention, next to the published figures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import networks
from .cli import bad_input, checkpoint_options, command, json_option, main, runs_option
from .text import print_table, say

if TYPE_CHECKING:
    from condense_core.store import RunStore

ALL_COLUMNS = (
    *("model", "data", "FLOPs (paper) M", "MACs M", "printed M", "FLOPs agree"),
    *("params M", "printed M", "params agree", "error %", "source"),
)
LAYER_COLUMNS = ("layer", "operator", "in", "out", "groups", "size", "MACs", "FLOPs (paper)", "params")


@command
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="every preset and baseline next to its published figures")
@click.option("--conventions", is_flag=True, help="also run it once, and let fvcore and torch count")
@click.option("--per-layer", is_flag=True, help="one row per layer")
@click.option("--stage", type=int, help="stage of a preset: 0 (nothing pruned) to C-1 (default: the last)")
@runs_option
@checkpoint_options
@click.option(
    "--image-size", type=int, help="image size of an official checkpoint  (default: 224 for stride 2, else 32)"
)
@json_option
def cost(
    name: str | None,
    every: bool,
    conventions: bool,
    per_layer: bool,
    stage: int | None,
    runs: Path,
    as_json: bool,
    **settings: Any,
) -> int:
    """Count what one image costs in a preset, a baseline, a run or an official checkpoint.

    FLOPs mean different things in different places, so every figure is given with its convention.
    """
    if every:
        if name or conventions or per_layer or stage is not None:
            raise click.UsageError("--all: goes alone or with --json")
        return _print_all(as_json)
    with bad_input():
        if name is None:
            raise ValueError("name: missing; a preset, a baseline, a run, a checkpoint file, or --all")
        from condense_core.store import RunStore

        counted, image_size = _counted(name, RunStore(runs), stage, conventions, settings)
        networks.check_used(name, stage, **settings)
    if as_json:
        click.echo(json.dumps(to_json(name, image_size, counted), indent=1))
    else:
        _print_one(f"{name}, {image_size} pixels", name, counted, per_layer)
    return 0


def _counted(
    name: str, store: RunStore, stage: int | None, is_traced: bool, settings: dict[str, Any]
) -> tuple[networks.Conventions, int]:
    """Count a network by its layers, if `is_traced` also as it is executed; return its image size too."""
    if is_traced:
        network, image_size = networks.find_network(name, store, **settings)
        return networks.count_conventions(network, stage, image_size), image_size
    table, image_size = networks.find_cost(name, store, stage, **settings)
    return networks.Conventions(table), image_size


def to_json(name: str, image_size: int, counted: networks.Conventions) -> dict[str, Any]:
    """Return the cost of a network as plain values; all counts are whole numbers for one image."""
    table = counted.table
    return {
        "name": name,
        "image_size": image_size,
        "flops_paper": table.flops_paper,
        "params_paper": table.params,
        "macs": table.macs,
        "params": table.params,
        "conventions": counted.to_dict(),
        "published": [dataclasses.asdict(row) for row in networks.published_rows(name)],
        "layers": [dataclasses.asdict(layer) for layer in table.layers],
    }


def _print_one(title: str, name: str, counted: networks.Conventions, per_layer: bool) -> None:
    if per_layer:
        rows = [_layer_row(layer) for layer in counted.table.layers]
        print_table(f"{title}, layer by layer, one image", LAYER_COLUMNS, rows)
    rows = [(convention, f"{figure:,}", meaning) for convention, figure, meaning in counted.rows()]
    print_table(f"{title}, one image", ("convention", "count", "what is counted"), rows)
    if count := counted.condensed or counted.masked:
        skipped = ", ".join(f"{number} {operator}" for operator, number in count.uncounted.items()) or "none"
        say(f"Calls that fvcore did not count: {skipped}; it ignores ReLUs and concatenations.")
    else:
        say("What fvcore and torch count of it as it is executed: --conventions.")
    for row in networks.published_rows(name):
        say(_published_line(row))


def _layer_row(layer: Any) -> tuple[str, ...]:
    sizes = (layer.in_channels, layer.out_channels, layer.groups, layer.output_size)
    figures = (layer.macs, layer.flops_paper, layer.params)
    return (layer.name, layer.operator, *map(str, sizes), *(f"{figure:,}" for figure in figures))


def _published_line(row: Any) -> str:
    flops, params = ("–" if figure is None else f"{figure:g} M" for figure in (row.flops, row.params))
    top5 = "" if row.top5_error_percent is None else f", top-5 {row.top5_error_percent:g} %"
    note = f" ({row.note})" if row.note else ""
    figures = f"FLOPs {flops}, params {params}, error {row.error_percent:g} %{top5}"
    return f"Published for {row.data}: {figures}: {row.source}, {row.url}{note}"


def _print_all(as_json: bool) -> int:
    rows = networks.compare_published()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return 0
    marked = [row["published"]["note"] for row in rows if "pruned" not in row["name"]]
    notes = list(dict.fromkeys(filter(None, marked)))
    print_table("Cost of one image, and the published figures", ALL_COLUMNS, [_row(row, notes) for row in rows])
    say("CondenseNets and DenseNet-BC are compared in the paper's FLOPs, the others in MACs.")
    for number, note in enumerate(notes, start=1):
        say(f"[{number}] {note}")
    return 0


def _row(row: dict[str, Any], notes: list[str]) -> tuple[str, ...]:
    """Return a network's row under ALL_COLUMNS; its name has the number of its note."""
    published = row["published"]
    has_mark = published["note"] in notes and "pruned" not in row["name"]
    return (
        row["name"] + (f" [{notes.index(published['note']) + 1}]" if has_mark else ""),
        published["data"],
        f"{row['flops_paper'] / 1e6:.2f}",
        f"{row['macs'] / 1e6:.2f}",
        "–" if published["flops"] is None else f"{published['flops']:g}",
        row["flops_agree"],
        f"{row['params'] / 1e6:.3f}",
        "–" if published["params"] is None else f"{published['params']:g}",
        row["params_agree"],
        f"{published['error_percent']:g}",
        published["source"],
    )


if __name__ == "__main__":
    main(cost)
