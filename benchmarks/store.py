"""Measure time and memory of listings and the report in a run store with a thousand runs.

    python benchmarks/store.py [--runs runs --study ablation-digits --seeds 48]

The runs of an existing study (`make ablate` trains it) are copied to more seeds, under new names and with
redrawn errors, so that statistics have something to do. Weights and checkpoints are not copied, because
nothing here reads them. Every command has its own process; its peak memory is the one that the system reports.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from save_result import save_result

from analysis.studies import command, study_config
from condense_core.files import write_json
from condense_core.store import Run, RunStore
from condense_core.validation import to_dict

COPIED = shutil.ignore_patterns("checkpoints", "weights.safetensors", "lock", "holder.json")
SPREAD = 0.4  # standard deviation of the redrawn errors, percentage points


def make_store(source: RunStore, study: str, seeds: int, root: Path) -> RunStore:
    """Copy the runs of a study in `source` until every variant has `seeds` seeds; return the new store."""
    store, record = RunStore(root), source.read_study(study)
    store.create()
    config = study_config(**record["settings"] | {"seeds": seeds})
    for variant in record["variants"]:
        runs = [Run(source.root / name) for name in variant["runs"]]
        variant["runs"] = [_copy(runs[seed % len(runs)], seed, store) for seed in range(seeds)]
    store.write_study(study, record | {"settings": to_dict(config)})
    return store


def _copy(run: Run, seed: int, store: RunStore) -> str:
    """Copy a run to another seed, with redrawn errors; return its name."""
    config = replace(run.config, seed=seed)
    folder, draws = store.run(config).folder, random.Random(config.hash)
    shutil.copytree(run.folder, folder, ignore=COPIED)
    write_json(folder / "config.json", run.record | {"config": to_dict(config)})
    result = run.result
    images = round(draws.gauss(0, SPREAD) / 100 * result["test_images"])
    error = max(0.0, result["test_error_percent"] + 100 * images / result["test_images"])
    write_json(folder / "result.json", result | {"test_error_percent": error})
    rows = [_redrawn(row, draws) for row in run.epochs()]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return config.name


def _redrawn(row: dict[str, Any], draws: random.Random) -> dict[str, Any]:
    return row | {"curve_error_percent": abs(row["curve_error_percent"] + draws.gauss(0, SPREAD))}


def measure(arguments: list[str], repeats: int) -> dict[str, Any]:
    """Return median seconds and peak memory in bytes of Python with these arguments."""
    seconds, peaks = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds.append(time.perf_counter() - start)
        peaks.append(1024 * usage.ru_maxrss)
        process.returncode = os.waitstatus_to_exitcode(status)  # Popen does not know that wait4 has waited
        if process.returncode:
            raise click.ClickException(f"{' '.join(arguments)}: exit status {process.returncode}")
    return {
        "seconds": round(statistics.median(seconds), 3),
        "all_seconds": [round(value, 3) for value in seconds],
        "peak_memory": max(peaks),
    }


@click.command()
@click.option("--runs", type=click.Path(exists=True, path_type=Path), default="runs", show_default=True)
@click.option("--study", default="ablation-digits", show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=48, show_default=True, help="of every variant")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="of every measurement")
def store(runs: Path, study: str, seeds: int, repeats: int) -> None:
    """Make a large store, measure its listings and its report, print a table and save the result."""
    with tempfile.TemporaryDirectory() as folder:
        large = make_store(RunStore(runs), study, seeds, Path(folder) / "runs")
        count, reports = len(large.runs()), Path(folder) / "reports"
        settings = study_config(**large.read_study(study)["settings"])
        arguments = command(settings).split()[1:]
        frames = "from analysis import frames; frames"
        commands = {
            "ablate --dry-run": [*arguments, "--dry-run", "--runs", str(large.root)],
            "ablate --dry-run --json": [*arguments, "--dry-run", "--json", "--runs", str(large.root)],
            "frames.runs": ["-c", f"{frames}.runs({str(large.root)!r})"],
            "frames.study_runs": ["-c", f"{frames}.study_runs({str(large.root)!r}, {study!r})"],
            "report": ["-m", "analysis.report", study, "--runs", str(large.root), "--reports", str(reports)],
        }
        rows = []
        for name, arguments in commands.items():
            row = {"what": name, **measure(arguments, repeats)}
            rows.append(row)
            click.echo(f"{name:<26}{row['seconds']:8.2f} s{row['peak_memory'] / 1e6:8.0f} MB")
        page = (reports / study / "index.html").stat().st_size
    click.echo(f"{count} runs; the report has {page / 1e6:.2f} MB")
    save_result("store", {runs: "runs"}, runs=count, report_bytes=page, rows=rows)


if __name__ == "__main__":
    store()
