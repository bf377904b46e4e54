"""Time ONNX files of condensed networks against those of the dense networks, in each runtime.

    python benchmarks/exports.py

The forms are chosen as `python -m analysis.condense --to x.onnx --for RUNTIME --batch 1,8,64` chooses them.
Masks are those of the initial weights, at the last stage. Both sides take turns: times are medians by the clock
and, because other programs may disturb these, the shortest of the processor's time.
"""

from __future__ import annotations

import click
import numpy as np
import torch
from beside import beside, in_words
from save_result import save_result

from analysis.studies.options import CommaList
from condense_core import PRESETS, CondenseNet, ModelConfig, condense
from condense_core.condensation import prune_to_stage
from condense_core.deploy import RUNTIMES, choose_forms, dense_forms, network_file


def measure(name: str, config: ModelConfig, runtime: str, batches: tuple[int, ...], repeats: int) -> list[dict]:
    """Choose the forms of a network in a runtime, and time its file beside the dense one."""
    model = CondenseNet(config, seed=0).eval()
    prune_to_stage(model, config.last_stage, config.last_stage)
    small = condense(model, execution="reference")
    forms = choose_forms(small, runtime, batches)
    click.echo(f"{name}\n{forms}")
    files = {"condensed": network_file(small, forms.parts), "dense": network_file(small, dense_forms(small))}
    rows = []
    for one in forms.times:
        images = np.random.default_rng(0).standard_normal((one.batch, 3, *[config.image_size] * 2), np.float32)
        loaded = {side: RUNTIMES[runtime].load(file, images.shape) for side, file in files.items()}
        turns = {side: lambda run=run: run(images) for side, run in loaded.items()}  # noqa: B023
        row = {"network": name, "runtime": forms.runtime, "batch": one.batch, "certified_ratio": one.ratio}
        rows.append(row | beside(turns, one.batch, repeats))
        click.echo(f"batch {one.batch:<4}{in_words(rows[-1], 'dense')}")
    return [row | {"forms": {part: str(form) for part, form in forms.parts.items()}} for row in rows]


@click.command()
@click.option("--networks", type=CommaList(str), default="condensenet-50,condensenet-86")
@click.option("--runtimes", type=CommaList(str), default=",".join(RUNTIMES))
@click.option("--batch", "batches", type=CommaList(int), default="1,8,64")
@click.option("--threads", default=1)
@click.option("--repeats", type=click.IntRange(6), default=9)
def exports(
    networks: tuple[str, ...], runtimes: tuple[str, ...], batches: tuple[int, ...], threads: int, repeats: int
) -> None:
    """Measure, print a table and save a result for each network."""
    torch.set_num_threads(threads)
    for name in networks:
        rows = [row for own in runtimes for row in measure(name, PRESETS[name], own, batches, repeats)]
        save_result(f"exports-{name}", settings={"threads": threads, "repeats": repeats}, rows=rows)


if __name__ == "__main__":
    exports()
