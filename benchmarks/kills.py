"""Kill a study again and again, and check that its store ends like that of an undisturbed study.

python benchmarks/soak.py kills [--kills 200]

12 runs train in a process that is killed after a random time or in the middle of a random write. Between two
kills files are damaged as crashes and bad disks damage them. Every tenth kill hits `python -m analysis.ablate`
with its worker processes. Then all runs are resumed and finish, and every file must equal that of the
undisturbed store.
"""

from __future__ import annotations

import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import torch
from save_result import save_result

from analysis.engines import single_run
from analysis.engines.single_run import execute
from analysis.studies import Study, command
from condense_core.store import FINISHED, RunStore

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.faults import Files, full, kill

SETTINGS = {
    "name": "soak",
    "stages": (2, 2),
    "growth_rate": 4,
    "connectivity": ("full",),
    "growth": ("exponential",),
    "grouping": ("learned", "random", "unstructured"),
    "sizes": (),
    "reference": True,
    "dense_equal": False,
    "seeds": 3,
    "epochs": 120,
    "train_images": 320,
    "match": "width",
    "execution": "reference",
}
DATA = Path("data")


def train(study: Study, store: RunStore, order: random.Random) -> None:
    """Train the study's runs in this process, in a random order."""
    single_run.CHECKPOINT_SECONDS = 0.05
    torch.set_num_threads(1)
    configs = [config for _, config in study.run_configs()]
    for config in order.sample(configs, len(configs)):
        execute(config, store, DATA)


def fork(work: Callable[[], None]) -> int:
    """Do `work` in a child process; return its id."""
    if child := os.fork():
        return child
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def kill_after(child: int, seconds: float) -> bool:
    """Kill a child process after some seconds unless it has ended; return whether a signal ended it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.WIFSIGNALED(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def kill_command(study: Study, store: RunStore, seconds: float) -> bool:
    """Kill `python -m analysis.ablate` and all its workers some seconds after they start to train."""
    arguments = shlex.split(command(study.config))[1:]
    with tempfile.TemporaryDirectory() as reports:
        folders = ["--jobs", "2", "--runs", str(store.root), "--reports", reports, "--data-dir", str(DATA)]
        process = subprocess.Popen(
            [sys.executable, *arguments, *folders],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until and not _held(store):
            time.sleep(0.05)
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def _held(store: RunStore) -> bool:
    return any(path.suffix[1:].isdigit() for path in (store.root / "locks").glob("*"))


def disturb(study: Study, store: RunStore, draws: random.Random, number: int) -> str:
    """Cause one fault; return its name, or '' if there was nothing to disturb."""
    if number % 10 == 9:
        return "killed command" if kill_command(study, store, draws.uniform(0, 2)) else ""
    if number % 3 == 0:

        def in_a_write() -> None:
            with Files(store.root, draws.randrange(1, 200), kill).watched():
                train(study, store, draws)

        return "killed in a write" if kill_after(fork(in_a_write), 3) else ""
    child = fork(lambda: train(study, store, draws))
    return "killed at a moment" if kill_after(child, draws.uniform(0.02, 0.6)) else ""


def damage(store: RunStore, draws: random.Random) -> str:
    """Damage an unfinished run as a crash or a bad disk may; return the kind, or '' if nothing was damaged."""
    left = [run for run in store.runs() if run.status["state"] not in FINISHED]
    if not left:
        return ""
    run = draws.choice(left)
    kind = draws.choice(["torn line", "cut checkpoint", "flipped bit", "full disk"])
    if kind == "torn line":
        with (run.folder / "metrics.jsonl").open("a") as file:
            file.write('{"epoch": 99, "st')
    elif kind == "full disk":

        def fill() -> None:
            with Files(store.root, draws.randrange(1, 60), full(), lasts=True).watched():
                execute(run.config, store, DATA)

        os.waitpid(fork(fill), 0)
    elif (found := run.checkpoints()) and len(found) > 1:
        content = bytearray(found[0].path.read_bytes())
        if kind == "cut checkpoint":
            content = content[: draws.randrange(len(content))]
        else:
            content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
        found[0].path.write_bytes(content)
    else:
        return ""
    return kind


@click.command()
@click.option("--kills", "wanted", default=200, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True)
def kills(wanted: int, seed: int) -> None:
    """Kill a study of 12 runs, and compare its store with that of an undisturbed study."""
    draws, study = random.Random(seed), Study.named("ablation", device="cpu", **SETTINGS)
    configs = [config for _, config in study.run_configs()]
    with tempfile.TemporaryDirectory() as folder:
        calm, store = (RunStore(Path(folder) / name) for name in ("undisturbed", "killed"))
        for one in (calm, store):
            one.create()
        began = time.monotonic()
        train(study, calm, draws)
        undisturbed = time.monotonic() - began
        done: Counter[str] = Counter()
        began = time.monotonic()
        for number in range(100 * wanted):
            done[disturb(study, store, draws, number)] += 1
            if number % 4 == 0:
                done[damage(store, draws)] += 1
            survived = sum(count for kind, count in done.items() if kind.startswith("killed"))
            if survived >= wanted or all(store.run(config).status["state"] in FINISHED for config in configs):
                break
        train(study, store, draws)
        seconds = time.monotonic() - began
        differing = [
            config.name for config in configs if store.run(config).contents() != calm.run(config).contents()
        ]
        record = {
            "runs": len(configs),
            "kills": survived,
            "faults": {kind: count for kind, count in sorted(done.items()) if kind},
            "noted": sum(len(store.run(config).notes()) for config in configs),
            "seconds_undisturbed": round(undisturbed, 1),
            "seconds_with_kills": round(seconds, 1),
            "runs_that_differ": differing,
        }
    for name, value in record.items():
        click.echo(f"{name}: {value}")
    save_result("kills", **record)
    if differing or survived < wanted:
        raise SystemExit(1)
