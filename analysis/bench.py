"""`python -m analysis.bench`: what a network's MACs come to in milliseconds, and where they get lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli import bad_input, check_writable, main
from .text import say
from .timing import measure_networks, subject_named

if TYPE_CHECKING:
    from .timing import Execution

COLUMNS = (
    "model",
    "execution",
    "batch",
    "ms an image",
    "95 % interval",
    "against torch",
    "MACs",
    "GFLOP/s",
    "of peak",
    "memory MB",
)


WIDE = 0.3  # an interval, beside its median


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--batch", "batches", default="1", metavar="N,N", help="images at a time  (default: 1)")
@click.option("--threads", type=click.IntRange(1), help="for every execution  (default: torch's setting)")
@click.option(
    "--execution",
    "executions",
    multiple=True,
    metavar="X",
    help="one of those to time; may be given again  (default: all that are installed, without torch.compile)",
)
@click.option(
    "--repeats", type=click.IntRange(6), default=15, help="rounds in which all take turns  (default: 15)"
)
@click.option("--per-layer", is_flag=True, help="take the layers apart: where the time goes that MACs promise")
@click.option("--runs", type=click.Path(path_type=Path), default="runs", help="run store  (default: runs)")
@click.option("--json", "as_json", is_flag=True, help="machine-readable result on stdout")
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

    Each network is run dense (pruned weights are zeros) and, where it can be condensed, small, by every
    runtime that is installed; all take turns on the same images. A preset has its initial weights, pruned by
    their size. The result is kept in the run store, where reports find it.
    """
    with bad_input():
        sizes, chosen = _batches(batches), _executions(executions)
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
        say(f"Kept in {path}")
    return 0


def _batches(text: str) -> list[int]:
    sizes = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if min(sizes) < 1:
        raise ValueError(f"batch {text!r}: must be whole numbers of at least 1, with commas between them")
    return list(dict.fromkeys(sizes))


def _executions(names: tuple[str, ...]) -> list[Execution]:
    from condense_core.validation import nearest

    from .timing import EXECUTIONS

    for name in names:
        if name not in EXECUTIONS:
            raise ValueError(f"execution {name!r}: {nearest(name, EXECUTIONS)}")
        if not EXECUTIONS[name].is_there:
            raise ValueError(
                f"execution {name!r}: needs {', '.join(EXECUTIONS[name].needs)}, not all installed"
            )
    if names:
        return [EXECUTIONS[name] for name in dict.fromkeys(names)]
    return [execution for execution in EXECUTIONS.values() if execution.by_default and execution.is_there]


def _print(record: dict[str, Any]) -> None:
    from .plots import count
    from .text import print_table

    peak, rows = record["peak_gflops"], []
    first: dict[tuple[str, int], float] = {}
    for row in record["times"]:
        base = first.setdefault((row["model"], row["batch"]), row["milliseconds"])
        memory = "–" if row["peak_memory"] is None else f"{row['peak_memory'] / 1e6:.0f}"
        rows.append(
            (
                row["model"],
                row["execution"],
                str(row["batch"]),
                f"{row['milliseconds']:.2f}",
                f"{row['low']:.2f} to {row['high']:.2f}",
                f"{base / row['milliseconds']:.2f} x",
                count(row["computed_macs"]),
                f"{row['gflops']:.1f}",
                f"{row['gflops'] / peak:.0%}",
                memory,
            )
        )
    columns = [*COLUMNS]
    columns[5] = f"against {record['times'][0]['execution']}" if rows else columns[5]
    title = f"{record['processor']}, {record['threads']} threads, peak {peak:.0f} GFLOP/s (square product)"
    print_table(title, columns, rows)
    if wide := [row for row in record["times"] if row["high"] - row["low"] > WIDE * row["milliseconds"]]:
        say(
            f"{len(wide)} of {len(record['times'])} intervals are wider than {WIDE:.0%} of their medians: "
            "other work was running. They say little; measure again on a quiet machine, with more --repeats."
        )
    for tie in record["ties"]:
        ratio = tie["ratio"]
        say(
            f"{tie['model']}, batch {tie['batch']}: too noisy to tell {tie['first']} from {tie['second']} "
            f"(ratio {ratio['median']:.2f}, {ratio['low']:.2f} to {ratio['high']:.2f})."
        )
    if record["parts"]:
        _print_parts(record["parts"])


def _print_parts(rows: list[dict[str, Any]]) -> None:
    import pandas as pd

    from .text import print_table

    frame = pd.DataFrame(rows)
    for model, own in frame.groupby("model", sort=False):
        whole = own.pivot_table(
            index="part", columns="execution", values="milliseconds", aggfunc="sum", sort=False
        )
        whole = whole[list(dict.fromkeys(own.execution))]
        whole.loc["all"] = whole.sum()
        cells = [
            (str(part), *("–" if pd.isna(value) else f"{value:.2f}" for value in line))
            for part, line in zip(whole.index, whole.to_numpy(), strict=True)
        ]
        batch = own.batch.iloc[0]
        print_table(f"{model}: milliseconds a batch of {batch} by part", ["part", *whole.columns], cells)
        work = own.dropna(subset="gflops")
        layers = work.assign(what=work.execution + ", " + work.part).pivot_table(
            index="layer", columns="what", values=["milliseconds", "gflops"], sort=False
        )
        names = list(dict.fromkeys(work.execution + ", " + work.part))
        cells = [
            (str(layer), *(_cell(line["milliseconds", name], line["gflops", name]) for name in names))
            for layer, line in layers.iterrows()
        ]
        print_table(f"{model}: milliseconds (GFLOP/s) layer by layer", ["layer", *names], cells)


def _cell(milliseconds: float, gflops: float) -> str:
    return f"{milliseconds:.3f} ({gflops:.1f})"


if __name__ == "__main__":
    main(bench)
