"""Time `condense(model)` as it comes against the masked network that it is made from.

    python benchmarks/as_it_comes.py

Masks are those of the initial weights, at the last stage. Both take turns: times are medians per image by the
clock and, because other programs may disturb these, the shortest of the processor's time. The first call for
each shape, which measures the plan, is timed alone.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import click
import torch
from beside import beside, in_words
from save_result import save_result

from analysis.studies.options import CommaList
from condense_core import PRESETS, CondenseNet, ModelConfig, condense
from condense_core.condensation import prune_to_stage

DIGITS = ModelConfig(stages=(4, 4, 4), growth=(4, 8, 16), image_size=8)
NETWORKS = {"digits": DIGITS} | {
    name: PRESETS[name] for name in ("condensenet-50", "condensenet-86", "condensenet-74-imagenet-g8")
}


def measure(name: str, config: ModelConfig, batch: int, repeats: int) -> dict[str, object]:
    """Time one network on batches of one size."""
    model = CondenseNet(config, seed=0).eval().requires_grad_(False)
    prune_to_stage(model, config.last_stage, config.last_stage)
    images = torch.randn(batch, 3, config.image_size, config.image_size)
    small = condense(model)
    start = time.perf_counter()
    small(images)
    first = time.perf_counter() - start
    turns = {"masked": lambda: model(images), "condensed": lambda: small(images)}
    found = beside(turns, batch, repeats)
    click.echo(f"{name:<28}batch {batch:<4}{in_words(found, 'masked')}; first call {first:.2f} s")
    return {"network": name, "batch": batch, "first_call_seconds": first, **found}


@click.command()
@click.option("--networks", type=CommaList(str), default=",".join(NETWORKS))
@click.option("--batch", "batches", type=CommaList(int), default="1,8,64")
@click.option("--threads", default=1)
@click.option("--repeats", type=click.IntRange(6), default=9)
def as_it_comes(networks: tuple[str, ...], batches: tuple[int, ...], threads: int, repeats: int) -> None:
    """Measure, print a table and save a result for each network."""
    torch.set_num_threads(threads)
    condense(CondenseNet(DIGITS, seed=0))(torch.zeros(1, 3, 8, 8))  # compiles the kernels
    with (
        tempfile.TemporaryDirectory() as empty,
        patch("condense_core.deploy.remembered.folder", lambda: Path(empty)),
    ):
        for name in networks:
            rows = [measure(name, NETWORKS[name], batch, repeats) for batch in batches]
            save_result(f"as_it_comes-{name}", settings={"threads": threads, "repeats": repeats}, rows=rows)


if __name__ == "__main__":
    as_it_comes()
