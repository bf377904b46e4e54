"""Time training steps of the default network, here and at an earlier commit, in turns on one thread.

    python benchmarks/small_step.py [--commit 40ebbf7 --rounds 5 --steps 100]

Steps are those of `Trainer` on noise, 4-4-4 layers, k₀ = 4, 64 images. Times are processor time, medians of a
round's steps and of the rounds, each in a process of its own. Result: `results/small_step.json`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
import torch

from condense_core import DataConfig, ModelConfig, RecipeConfig, RunConfig, Trainer
from condense_core.data import Augmentation, Dataset, DecodedImages, Normalisation

HERE = Path(__file__).parent.parent
BATCH = 64
CASES = [  # grouping, pixels, in the last stage
    ("random", 8, False),
    ("learned", 8, False),
    ("learned", 8, True),
    ("learned", 32, False),
    ("learned", 32, True),
]
WARM_UP = 3


def noise(size: int) -> Dataset:
    """Return noise for one batch."""
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (BATCH, 3, size, size), dtype=torch.uint8, generator=draws)
    normalise = Normalisation((0.5,) * 3, (0.25,) * 3)
    images = DecodedImages(pixels, torch.arange(BATCH) % 10, normalise, Augmentation(0, flip=False))
    return Dataset("noise", tuple("0123456789"), images, None, images)


def milliseconds(grouping: str, size: int, last: bool, steps: int) -> float:
    """Return the median processor time of a step."""
    model = ModelConfig((4, 4, 4), (4, 8, 16), grouping=grouping, image_size=size)
    recipe = replace(RecipeConfig(), epochs=10_000, batch_size=BATCH, group_lasso=1e-5, learning_rate=1e-3)
    trainer = Trainer(RunConfig(model, recipe, DataConfig(), execution="fast"), noise(size))
    trainer.model.train()
    trainer.step = trainer.total_steps * 6 // 10 if last else 0
    list(trainer.enter_stages())
    trainer.model.train()
    batch, times = next(trainer.dataset.training_batches(0, 0, BATCH)), []
    for _ in range(WARM_UP + steps):
        start = time.process_time()
        trainer.train_on(*batch)
        times.append(1000 * (time.process_time() - start))
    return statistics.median(times[WARM_UP:])


def round_of(code: Path, steps: int) -> list[float]:
    """Time all cases in a new process, by the code of a folder."""
    command = [sys.executable, __file__, "--steps", str(steps), "--measure"]
    environment = os.environ | {"PYTHONPATH": str(code)}
    done = subprocess.run(command, cwd=code, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@click.command()
@click.option("--commit", default="40ebbf7", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=100, show_default=True)
@click.option("--measure", is_flag=True, hidden=True)
def small_step(commit: str, rounds: int, steps: int, measure: bool) -> None:
    """Measure both sides, print a table and save the result."""
    if measure:
        torch.set_num_threads(1)
        click.echo(json.dumps([round(milliseconds(*case, steps), 3) for case in CASES]))
        return
    from study import checked_out

    with tempfile.TemporaryDirectory() as name, checked_out(commit, Path(name) / "earlier") as earlier:
        both = [(round_of(earlier, steps), round_of(HERE, steps)) for _ in range(rounds)]
    rows = [_row(place, both) for place in range(len(CASES))]
    for row in rows:
        click.echo(
            f"{row['grouping']:<9}{row['pixels']:>3}² {'last' if row['last'] else '0':<5}"
            f"{row['earlier']:8.2f} ms{row['here']:8.2f} ms{row['ratio']:7.3f}"
        )
    from save_result import save_result

    save_result("small_step", settings={"commit": commit, "rounds": rounds, "steps": steps}, rows=rows)


def _row(place: int, both: list[tuple[list[float], list[float]]]) -> dict[str, object]:
    grouping, pixels, last = CASES[place]
    all_ms = {side: [pair[number][place] for pair in both] for number, side in enumerate(("earlier", "here"))}
    earlier, here = (statistics.median(times) for times in all_ms.values())
    found = {"earlier": earlier, "here": here, "ratio": round(here / earlier, 3), "all": all_ms}
    return {"grouping": grouping, "pixels": pixels, "last": last} | found


if __name__ == "__main__":
    small_step()
