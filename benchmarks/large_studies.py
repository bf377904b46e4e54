"""Measure the parts of very large studies: the figures behind docs/scale.md.

    python benchmarks/large_studies.py [--runs runs --threads 2]

Measured are the bytes, files and seconds of a run in an existing store; time and memory per image of a
training step of CondenseNet-74 at 224 pixels; reading and cropping a photograph of 500×375 on one core;
listing 100,000 files; and writing a checkpoint of CondenseNet-74.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from save_result import save_result
from training import our_step, print_own_memory, times_in_turn

from condense_core import PRESETS, CondenseNet, DataConfig
from condense_core.data.decoding import FileReader
from condense_core.data.folders import ImageFiles, list_folder
from condense_core.store import RunStore, checkpoints

PRESET = "condensenet-74-imagenet-g4"
BATCHES = (4, 12)  # their difference gives the memory per image


def run_sizes(store: RunStore) -> dict[str, Any]:
    """Return means over the finished runs of a store."""
    done = [run for run in store.runs() if run.status["state"] == "done"]
    files = [[path for path in run.folder.rglob("*") if path.is_file()] for run in done]
    checkpoint_bytes = [
        sum(path.stat().st_size for path in paths if path.parent.name == "checkpoints") for paths in files
    ]
    return {
        "runs": len(done),
        "files": statistics.mean(map(len, files)),
        "bytes": statistics.mean(sum(path.stat().st_size for path in paths) for paths in files),
        "bytes_of_checkpoints": statistics.mean(checkpoint_bytes),
        "seconds": statistics.mean(run.seconds() for run in done),
    }


def step_seconds(threads: int) -> dict[str, float]:
    """Return seconds of training per image, by execution and stage."""
    torch.set_num_threads(threads)
    found = {}
    for last in (False, True):
        steps = {side: our_step(PRESETS[PRESET], side, BATCHES[0], last) for side in ("reference", "fast")}
        for side, times in times_in_turn(steps, 1, 5).items():
            found[f"{side}, stage {'last' if last else 0}"] = statistics.median(times) / BATCHES[0]
    return found


def step_memory() -> dict[str, float]:
    """Return the bytes of the process itself and those per image of a batch, in the fast execution."""
    low, high = (
        int(subprocess.check_output([sys.executable, __file__, "--memory-of-batch", str(batch)]))
        for batch in BATCHES
    )
    an_image = (high - low) / (BATCHES[1] - BATCHES[0])
    return {"an_image": an_image, "process": low - BATCHES[0] * an_image}


def median_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Return the median time of `work` over some repeats."""
    return statistics.median(times_in_turn({"work": work}, 0, repeats)["work"])


def photographs(folder: Path, count: int) -> ImageFiles:
    """Write JPEG files of 500×375 with some texture, about 100 kB each."""
    draws = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(draws.integers(0, 256, (94, 125, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=95)
    return ImageFiles(folder, tuple(f"{number}.jpg" for number in range(count)), (0,) * count)


def reading_seconds(folder: Path) -> dict[str, float]:
    """Return the seconds of reading and cropping one photograph, and its bytes."""
    files = photographs(folder, 64)
    reader = FileReader(files, 224)
    torch.set_num_threads(1)
    spent = median_seconds(lambda: [reader[index, index] for index in range(64)], 5) / 64
    return {"seconds": spent, "bytes": statistics.mean(p.stat().st_size for p in folder.glob("*.jpg"))}


def listing_seconds(folder: Path, count: int) -> float:
    """Return the seconds of listing `count` files in 100 classes."""
    for split, share in (("train", count - 1000), ("val", 1000)):
        for label in range(100):
            place = folder / split / f"{label:03}"
            place.mkdir(parents=True)
            for number in range(share // 100):
                (place / f"{number:05}.jpg").touch()
    config = DataConfig(f"imagenet:{folder}")
    return median_seconds(lambda: list_folder(config), 3)


def checkpoint_costs(folder: Path) -> dict[str, float]:
    """Return the seconds and bytes of writing weights and momentum."""
    model = CondenseNet(PRESETS[PRESET])
    tensors = {f"model.{name}": tensor.detach() for name, tensor in model.state_dict().items()}
    tensors |= {f"momentum.{name}": torch.zeros_like(own.detach()) for name, own in model.named_parameters()}
    spent = median_seconds(lambda: checkpoints.save(folder, tensors, {"step": 1, "epoch": 0}, None), 5)
    return {"seconds": spent, "bytes": sum(path.stat().st_size for path in folder.iterdir())}


@click.command()
@click.option("--runs", type=click.Path(exists=True, path_type=Path), default="runs", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--memory-of-batch", type=int, hidden=True)
def large_studies(runs: Path, threads: int, memory_of_batch: int | None) -> None:
    """Measure, print and save the result."""
    if memory_of_batch:
        print_own_memory(our_step(PRESETS[PRESET], "fast", memory_of_batch, False))
        return
    found: dict[str, Any] = {"run": run_sizes(RunStore(runs))}
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / name for name in ("photographs", "listed", "checkpoint")]
        for path in folders:
            path.mkdir()
        found["photograph"] = reading_seconds(folders[0])
        found["listing_100000_files_seconds"] = listing_seconds(folders[1], 100_000)
        found["checkpoint"] = checkpoint_costs(folders[2])
    found["step_seconds_an_image"], found["step_bytes"] = step_seconds(threads), step_memory()
    for name, value in found.items():
        click.echo(f"{name}: {value}")
    save_result("large_studies", {runs: "runs"}, preset=PRESET, threads=threads, **found)


if __name__ == "__main__":
    large_studies()
