"""`python -m analysis.cost`: what a network costs under every convention, beside the published figures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli import bad_input, main
from .networks import compare_published, published_rows
from .text import say

if TYPE_CHECKING:
    from condense_core import CostTable

    from .networks import Conventions

ALL_COLUMNS = (
    "model",
    "data",
    "FLOPs (paper) M",
    "MACs M",
    "printed M",
    "FLOPs agree",
    "params M",
    "printed M",
    "params agree",
    "error %",
    "source",
)
LAYER_COLUMNS = ("layer", "operator", "in", "out", "groups", "size", "MACs", "FLOPs (paper)", "params")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="every preset and baseline beside its published figures")
@click.option("--per-layer", is_flag=True, help="a row a layer")
@click.option("--stage", type=int, help="of a preset: 0 (nothing pruned) to C-1 (default: the last)")
@click.option("--runs", type=click.Path(path_type=Path), default="runs", help="run store  (default: runs)")
@click.option("--groups", type=int, help="of an official checkpoint whose masks do not show it yet")
@click.option("--condense-factor", type=int, help="likewise")
@click.option("--stem-stride", type=int, help="likewise  (default: 2 for 1000 classes, else 1)")
@click.option("--image-size", type=int, help="likewise  (default: 224 for stride 2, else 32)")
@click.option("--json", "as_json", is_flag=True, help="machine-readable result on stdout")
def cost(
    name: str | None,
    every: bool,
    per_layer: bool,
    stage: int | None,
    runs: Path,
    as_json: bool,
    **settings: Any,
) -> int:
    """What a network costs for one image: a preset, a baseline, a run or an official checkpoint.

    FLOPs mean different things in different places, so every figure is given with its convention.
    """
    if every:
        if name or per_layer or stage is not None:
            raise click.UsageError("--all: goes alone or with --json")
        return _print_all(as_json)
    with bad_input():
        if name is None:
            raise ValueError("name: missing; a preset, a baseline, a run, a checkpoint file, or --all")
        from condense_core import ModelConfig, cost_table
        from condense_core.store import RunStore

        from .networks import count_conventions, find_network

        network, image_size = find_network(name, RunStore(runs), **settings)
        if stage is not None and not isinstance(network, ModelConfig):
            raise ValueError(f"stage {stage}: only a preset has stages to choose from; {name!r} is as it is")
        table = cost_table(network, stage, image_size)
        _check_used(network, settings)
    counted = count_conventions(network, stage, image_size)
    if as_json:
        click.echo(json.dumps(to_json(name, image_size, table, counted), indent=1))
    else:
        _print_one(f"{name}, {image_size} pixels", name, table, counted, per_layer)
    return 0


def _check_used(network: Any, settings: dict[str, Any]) -> None:
    """Raise ValueError for a setting of a checkpoint that was given for something else."""
    for setting, value in settings.items():
        if value is not None and getattr(getattr(network, "config", None), setting, None) != value:
            raise ValueError(f"{setting} {value}: only of an official checkpoint")


def to_json(name: str, image_size: int, table: CostTable, counted: Conventions) -> dict[str, Any]:
    """The cost of one network as plain values; FLOPs, MACs and parameters are whole numbers for one image."""
    return {
        "name": name,
        "image_size": image_size,
        "flops_paper": table.flops_paper,
        "params_paper": table.params,
        "macs": table.macs,
        "params": table.params,
        "conventions": counted.to_dict(),
        "published": [dataclasses.asdict(row) for row in published_rows(name)],
        "layers": [dataclasses.asdict(layer) for layer in table.layers],
    }


def _print_one(title: str, name: str, table: CostTable, counted: Conventions, per_layer: bool) -> None:
    from .text import print_table

    if per_layer:
        rows = [
            (
                layer.name,
                layer.operator,
                *(
                    str(size)
                    for size in (layer.in_channels, layer.out_channels, layer.groups, layer.output_size)
                ),
                *(f"{figure:,}" for figure in (layer.macs, layer.flops_paper, layer.params)),
            )
            for layer in table.layers
        ]
        print_table(f"{title}, layer by layer, one image", LAYER_COLUMNS, rows)
    rows = [(convention, f"{figure:,}", meaning) for convention, figure, meaning in counted.rows()]
    print_table(f"{title}, one image", ("convention", "count", "what is counted"), rows)
    count = counted.condensed or counted.masked
    skipped = ", ".join(f"{number} {operator}" for operator, number in count.uncounted.items()) or "none"
    say(f"Calls that fvcore did not count: {skipped}; ReLUs and concatenations it ignores.")
    for row in published_rows(name):
        flops = "–" if row.flops is None else f"{row.flops:g} M"
        params = "–" if row.params is None else f"{row.params:g} M"
        top5 = "" if row.top5_error_percent is None else f", top-5 {row.top5_error_percent:g} %"
        note = f" ({row.note})" if row.note else ""
        say(
            f"Published for {row.data}: FLOPs {flops}, params {params}, error {row.error_percent:g} %{top5}: "
            f"{row.source}, {row.url}{note}"
        )


def _print_all(as_json: bool) -> int:
    from .text import print_table

    rows = compare_published()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return 0
    table, notes = [], []
    for row in rows:
        published = row["published"]
        if published["note"] and published["note"] not in notes and "pruned" not in row["name"]:
            notes.append(published["note"])
        mark = f" [{notes.index(published['note']) + 1}]" if published["note"] in notes else ""
        table.append(
            (
                row["name"] + (mark if "pruned" not in row["name"] else ""),
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
        )
    print_table("Cost of one image, and what is printed", ALL_COLUMNS, table)
    say("CondenseNets and DenseNet-BC are compared in the paper's FLOPs, the others in MACs.")
    for number, note in enumerate(notes, start=1):
        say(f"[{number}] {note}")
    return 0


if __name__ == "__main__":
    main(cost)
