"""`python -m analysis.bench`: measure what a network's MACs take in milliseconds, and where the time goes."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli import bad_input, batch_sizes, check_writable, command, json_option, main, runs_option
from .text import count, interval, print_table, say
from .timing import measure_networks, subject_named

if TYPE_CHECKING:
    import pandas as pd

    from .timing import Execution

COLUMNS = (
    *("model", "execution", "batch", "ms per image", "95 % interval", "against torch"),
    *("MACs", "GFLOP/s", "of peak", "memory MB"),
)
WIDE = 0.3  # width of an interval, as a share of its median, above which it is called noisy


@command
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--batch", "batches", default="1", metavar="N,N", help="batch sizes  (default: 1)")
@click.option(
    "--threads", type=click.IntRange(1), help="threads of every execution  (default: torch's setting)"
)
@click.option(
    "--execution",
    "executions",
    multiple=True,
    metavar="X",
    help="execution to time; may be given several times  (default: all that are installed but torch.compile)",
)
@click.option(
    "--repeats", type=click.IntRange(6), default=15, help="rounds in which all take turns  (default: 15)"
)
@click.option("--per-layer", is_flag=True, help="time every layer and its parts as well")
@runs_option
@json_option
def bench(
    names: tuple[str, ...],
    batches: str,
    threads: int | None,
    executions: tuple[str, ...],
    repeats: int,
    per_layer: bool,
    runs: Path,
    as_json: bool,
) -> int:
    """Time networks on this machine: presets, baselines, runs, official checkpoints.

    Every installed runtime runs each network dense (pruned weights are zeros) and, if possible, condensed; all
    take turns on the same images. A preset has its initial weights, pruned by their size. The result is saved
    in the run store, so that reports show it.
    """
    with bad_input():
        sizes, chosen = batch_sizes(batches), _executions(executions)
        if not names:
            raise ValueError("name: missing; presets, baselines, runs or checkpoint files")
        check_writable(runs)
        import torch

        from condense_core.store import RunStore

        if threads:
            torch.set_num_threads(threads)
        store = RunStore(runs)
        subjects = [subject_named(name, store) for name in dict.fromkeys(names)]
        store.create()
    record = measure_networks(subjects, chosen, sizes, repeats, per_layer)
    with bad_input():
        path = store.write_benchmark(record)
    if as_json:
        click.echo(json.dumps(record, indent=1))
    else:
        _print(record)
        say(f"Saved to {path}")
    return 0


def _executions(names: tuple[str, ...]) -> list[Execution]:
    from condense_core.validation import nearest

    from .timing import EXECUTIONS

    for name in names:
        if name not in EXECUTIONS:
            raise ValueError(f"execution {name!r}: {nearest(name, EXECUTIONS)}")
        if not EXECUTIONS[name].is_installed:
            raise ValueError(
                f"execution {name!r}: needs {', '.join(EXECUTIONS[name].needs)}, not all installed"
            )
    if names:
        return [EXECUTIONS[name] for name in dict.fromkeys(names)]
    return [execution for execution in EXECUTIONS.values() if execution.by_default and execution.is_installed]


def _print(record: dict[str, Any]) -> None:
    peak, times = record["peak_gflops"], record["times"]
    first: dict[tuple[str, int], float] = {}
    for row in times:
        first.setdefault((row["model"], row["batch"]), row["milliseconds"])
    rows = [_time_row(row, first[row["model"], row["batch"]], peak) for row in times]
    columns = [*COLUMNS]
    columns[5] = f"against {times[0]['execution']}" if times else columns[5]
    title = f"{record['processor']}, {record['threads']} threads, peak {peak:.0f} GFLOP/s (square product)"
    print_table(title, columns, rows)
    if wide := sum(row["high"] - row["low"] > WIDE * row["milliseconds"] for row in times):
        say(
            f"{wide} of {len(times)} intervals are wider than {WIDE:.0%} of their medians, because other work "
            "was running. They are not reliable; measure again on a quiet machine, with more --repeats."
        )
    for tie in record["ties"]:
        say(_tie_line(tie))
    if record["parts"]:
        _print_parts(record["parts"])


def _time_row(row: dict[str, Any], first: float, peak: float) -> tuple[str, ...]:
    """Return a measurement under COLUMNS, compared with the `first` execution of its network and batch."""
    return (
        row["model"],
        row["execution"],
        str(row["batch"]),
        f"{row['milliseconds']:.2f}",
        interval(row["low"], row["high"], ".2f"),
        f"{first / row['milliseconds']:.2f} x",
        count(row["computed_macs"]),
        f"{row['gflops']:.1f}",
        f"{row['gflops'] / peak:.0%}",
        "–" if row["peak_memory"] is None else f"{row['peak_memory'] / 1e6:.0f}",
    )


def _tie_line(tie: dict[str, Any]) -> str:
    ratio = tie["ratio"]
    return (
        f"{tie['model']}, batch {tie['batch']}: too noisy to tell {tie['first']} from {tie['second']} "
        f"(ratio {ratio['median']:.2f}, {interval(ratio['low'], ratio['high'], '.2f')})."
    )


def _print_parts(rows: list[dict[str, Any]]) -> None:
    import pandas as pd

    for model, own in pd.DataFrame(rows).groupby("model", sort=False):
        _print_sums(str(model), own)
        _print_layers(str(model), own)


def _print_sums(model: str, parts: pd.DataFrame) -> None:
    """Print the milliseconds of one batch by part and execution, and their sums."""
    table = parts.pivot_table("milliseconds", "part", "execution", aggfunc="sum", sort=False)
    table = table[list(dict.fromkeys(parts.execution))]
    table.loc["all"] = table.sum()
    rows = [
        (str(part), *("–" if isnan(value) else f"{value:.2f}" for value in line))
        for part, line in zip(table.index, table.to_numpy(), strict=True)
    ]
    title = f"{model}: milliseconds for a batch of {parts.batch.iloc[0]}, by part"
    print_table(title, ["part", *table.columns], rows)


def _print_layers(model: str, parts: pd.DataFrame) -> None:
    """Print milliseconds and GFLOP/s of every layer's convolutions."""
    work = parts.dropna(subset="gflops")
    work = work.assign(column=work.execution + ", " + work.part)
    layers = work.pivot_table(["milliseconds", "gflops"], "layer", "column", sort=False)
    names = list(dict.fromkeys(work.column))
    rows = [
        (str(layer), *(f"{line['milliseconds', name]:.3f} ({line['gflops', name]:.1f})" for name in names))
        for layer, line in layers.iterrows()
    ]
    print_table(f"{model}: milliseconds (GFLOP/s), layer by layer", ["layer", *names], rows)


if __name__ == "__main__":
    main(bench)
