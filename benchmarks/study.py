"""Time the default study, whole, here and at an earlier commit, in turns on one machine (Linux).

    python benchmarks/study.py [--commit 40ebbf7 --rounds 5 --seeds 3]

The earlier commit is checked out into a temporary folder. Both sides train the same runs, each round into a new
store, and write their reports. The first round compiles the kernels and is kept apart ("cold"). Processor time
is that of all processes of a study: others on the machine do not count. Result: `results/study.json`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from save_result import save_result

HERE = Path(__file__).parent.parent
NEWER = ("--split", "fixed", "--no-dense-equal")  # gives this commit's study the runs of the earlier one
REAP_GRANDCHILDREN = 36  # PR_SET_CHILD_SUBREAPER


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a folder, for the block."""
    tree = ("git", "-C", str(HERE), "worktree")
    subprocess.run([*tree, "add", "--quiet", "--detach", folder, commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*tree, "remove", "--force", folder], check=True)


def time_study(code: Path, folder: Path, options: tuple[str, ...]) -> dict[str, float]:
    """Return seconds and processor seconds of a study with its report, by the code of a folder."""
    places = ("--runs", str(folder / "runs"), "--reports", str(folder / "reports"))
    command = [sys.executable, "-m", "analysis.ablate", *options, *places]
    kernels = {"NUMBA_CACHE_DIR": str(folder.parent / f"kernels of {code.name}")}
    start, used = time.perf_counter(), _processor_seconds()
    subprocess.run(
        command, cwd=code, env=os.environ | kernels | {"PYTHONPATH": str(code)}, capture_output=True, check=True
    )
    seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 2), "processor_seconds": round(_processor_seconds() - used, 2)}


def _processor_seconds() -> float:
    """Return the processor time of all processes of studies that have ended."""
    while True:  # those whose parents ended before them are ours
        try:
            os.wait()
        except ChildProcessError:
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            return used.ru_utime + used.ru_stime


def measure(
    sides: dict[str, tuple[Path, tuple[str, ...]]], rounds: int, folder: Path
) -> Iterator[dict[str, Any]]:
    """Yield a row per side and round, with the sides taking turns."""
    for number in range(rounds + 1):
        for side, (code, options) in sides.items():
            place = folder / f"{side}-{number}"
            place.mkdir()
            yield {"side": side, "kernels": "warm" if number else "cold", **time_study(code, place, options)}


@click.command()
@click.option("--commit", default="40ebbf7", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
def study(commit: str, rounds: int, seeds: int) -> None:
    """Measure both sides, print a table and save the result."""
    ctypes.CDLL(None).prctl(REAP_GRANDCHILDREN, 1)
    options, rows = ("--seeds", str(seeds)), []
    with tempfile.TemporaryDirectory() as name, checked_out(commit, Path(name) / "earlier") as earlier:
        sides = {"earlier": (earlier, options), "here": (HERE, (*options, *NEWER))}
        for row in measure(sides, rounds, Path(name)):
            rows.append(row)
            click.echo(
                f"{row['side']:<10}{row['kernels']:<6}{row['seconds']:8.1f} s{row['processor_seconds']:8.1f} s"
            )
    ratios = {kernels: _ratios(rows, kernels) for kernels in ("cold", "warm")}
    click.echo(ratios)
    settings = {"commit": commit, "rounds": rounds, "seeds": seeds}
    save_result("study", settings=settings, ratios=ratios, rows=rows)


def _ratios(rows: list[dict[str, Any]], kernels: str) -> dict[str, float]:
    """Return the medians here over the earlier ones."""
    found = {}
    for what in ("seconds", "processor_seconds"):
        here, earlier = (
            statistics.median(row[what] for row in rows if row["side"] == side and row["kernels"] == kernels)
            for side in ("here", "earlier")
        )
        found[what] = round(here / earlier, 3)
    return found


if __name__ == "__main__":
    study()
