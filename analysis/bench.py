"""`python -m analysis.bench`: what a network's MACs come to in milliseconds, and where they get lost."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli import bad_input, check_writable, main
from .text import say

if TYPE_CHECKING:
    from .timing.runtimes import Execution, Subject

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

        from condense_core.store.run import RunStore

        if threads:
            torch.set_num_threads(threads)
        store = RunStore(runs)
        subjects = [_subject(name, store) for name in dict.fromkeys(names)]
        store.create()
    record = _measure(subjects, chosen, sizes, repeats, per_layer)
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

    from .timing.runtimes import EXECUTIONS

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


def _subject(name: str, store: Any) -> Subject:
    from condense_core import CondenseNet, ModelConfig
    from condense_core.condensation import learned_layers, prune
    from condense_core.stages import layer_stage

    from .networks.lookup import find_network
    from .timing.runtimes import subject

    network, image_size = find_network(name, store)
    if isinstance(network, ModelConfig):
        config, network = network, CondenseNet(network, seed=0)
        for layer in learned_layers(network).values():
            prune(layer, layer_stage(config.last_stage, config.last_stage, layer.condense_factor))
    return subject(Path(name).name, network, image_size)


def _measure(
    subjects: list[Subject], executions: list[Execution], batches: list[int], repeats: int, per_layer: bool
) -> dict[str, Any]:
    """Everything that is measured, as plain values."""
    import torch

    from condense_core.machine import processor
    from condense_core.store.provenance import environment

    from .timing.latency import gemm_gflops

    peak = gemm_gflops()
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    machine = {
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "peak_gflops": peak,
        "date": moment,
    }
    record: dict[str, Any] = {"format": 1, "environment": environment(), **machine, "repeats": repeats}
    record |= {"times": [], "ties": [], "parts": []}
    with tempfile.TemporaryDirectory() as folder:
        for batch in batches:
            for what in subjects:
                say(f"{what.name}, batch {batch} ...", err=True)
                rows, undecided = _time(what, executions, batch, repeats, Path(folder))
                record["times"] += [row | machine for row in rows]
                record["ties"] += undecided
    if per_layer:
        for what in subjects:
            say(f"{what.name}, layer by layer ...", err=True)
            record["parts"] += _take_apart(what, batches[0], repeats, moment)
    return record


def _time(
    what: Subject, executions: list[Execution], batch: int, repeats: int, folder: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    from .timing.latency import median_of, memory_of, take_turns, ties
    from .timing.runtimes import build, prepare

    calls, memory = {}, {}
    for execution in executions:
        if execution.condensed and what.condensed is None:
            continue
        prepare(execution, what, folder)
        make = partial(build, execution, what, batch, folder)
        calls[execution.name], memory[execution.name] = memory_of(make)
    times = take_turns(calls, repeats)
    rows = []
    for execution in executions:
        if execution.name in times:
            spent = median_of(times[execution.name] / batch)
            computed = what.macs if execution.condensed else what.dense_macs
            row = {
                "model": what.name,
                "execution": execution.name,
                "batch": batch,
                "image_size": what.image_size,
                "macs": what.macs,
                "computed_macs": computed,
                "params": what.params,
                "milliseconds": spent.median,
                "low": spent.low,
                "high": spent.high,
                "gflops": 2e-6 * computed / spent.median,
                "peak_memory": memory[execution.name],
            }
            rows.append(row)
    named = {"model": what.name, "batch": batch}
    return rows, [named | asdict(tie) for tie in ties(times)]


def _take_apart(what: Subject, batch: int, repeats: int, moment: str) -> list[dict[str, Any]]:
    import torch

    from .timing.waterfall import waterfall

    images = torch.randn(batch, 3, what.image_size, what.image_size, generator=torch.Generator().manual_seed(0))
    frame = waterfall(what, images, repeats)
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{"model": what.name, "batch": batch, **row, "date": moment} for row in rows]


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
