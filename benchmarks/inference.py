"""Time condensed networks on the CPU, the official converted network, and the dense one in every runtime.

    python benchmarks/inference.py --official DIR --preset condensenet-86 --batch 1,8,64

The masks are learned: the network is trained through all stages on scikit-learn's digits, enlarged to its
image size. The official network gets the same weights and masks, and the official code converts it. All of
them take turns; times are medians per image.
"""

from __future__ import annotations

import dataclasses
import importlib
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from parity import official_network
from save_result import save_result
from torch import nn

from analysis.studies.options import CommaList
from analysis.timing import EXECUTIONS
from analysis.timing.latency import gemm_gflops, median_of, memory_of, take_turns
from analysis.timing.runtimes import build, prepare, subject
from condense_core import PRESETS, CondenseNet, DataConfig, RecipeConfig, RunConfig, Trainer, condense, fast
from condense_core.data import Dataset, DecodedImages, load
from condense_core.deploy import make_plan
from condense_core.grouping import MaskedConv, live_weights

DENSE = ("torch", "torch channels_last", "torch.compile", "onnxruntime", "openvino")
OFFICIAL, OURS = "official converted", "condensed fast"
WITH_WEIGHTS = nn.Conv2d | nn.BatchNorm2d | nn.Linear


def trained(preset: str, steps: int, batch: int) -> CondenseNet:
    """Train the network of a preset for some steps through all its stages."""
    config = dataclasses.replace(PRESETS[preset], num_classes=10, classifier_pruning=False)
    data = load(DataConfig("digits"))

    def enlarge(split: Any, count: int) -> DecodedImages:
        pixels = nn.functional.interpolate(split.images[:count].float(), config.image_size).to(torch.uint8)
        return DecodedImages(pixels, split.labels[:count], split.normalise, split.augmentation)

    epoch = min(steps, 25)
    digits = Dataset(
        data.name, data.classes, enlarge(data.train, epoch * batch), None, enlarge(data.test, 2 * batch)
    )
    recipe = RecipeConfig(epochs=steps // epoch, batch_size=batch, group_lasso=1e-5)
    trainer = Trainer(RunConfig(config, recipe, DataConfig("digits"), execution="fast"), digits)
    for record in trainer.run():
        if hasattr(record, "train_loss"):
            click.echo(f"epoch {record.epoch}, stage {record.stage}: loss {record.train_loss:.2f}", err=True)
    return trainer.model.eval()


def official_converted(model: CondenseNet, folder: Path) -> nn.Module:
    """Give the official network the weights and masks of `model`, and convert it by the official code."""
    official = official_network(folder, model.config, repaired=False).float().eval()
    pairs = [[m for m in network.modules() if isinstance(m, WITH_WEIGHTS)] for network in (official, model)]
    for theirs, ours in zip(*pairs, strict=True):
        state = ours.state_dict()
        state.pop("mask", None)
        theirs.load_state_dict(state)
    layers = [module for module in official.modules() if hasattr(module, "_mask")]
    for layer, ours in zip(layers, (m for m in model.modules() if isinstance(m, MaskedConv)), strict=True):
        layer._mask.copy_(live_weights(ours))
    size = model.config.image_size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(official(images), model(images), rtol=1e-3, atol=1e-3), "not the same network"
    importlib.import_module("utils").convert_model(official, None)
    return official


@click.command()
@click.option("--official", "folder", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--preset", type=click.Choice(list(PRESETS)), default="condensenet-86")
@click.option("--batch", "batches", type=CommaList(int), default="1,8,64")
@click.option("--steps", default=200, help="training steps, through all stages")
@click.option("--training-batch", default=8)
@click.option("--threads", default=2)
@click.option("--repeats", type=click.IntRange(6), default=9)
@click.option("--compiled", is_flag=True, help="include torch.compile, which takes minutes to compile")
def inference(
    folder: Path,
    preset: str,
    batches: tuple[int, ...],
    steps: int,
    training_batch: int,
    threads: int,
    repeats: int,
    compiled: bool,
) -> None:
    """Measure, print a table and save the result."""
    torch.set_num_threads(threads)
    model = trained(preset, steps, training_batch)
    fast.use(model, "reference")
    converted = official_converted(model, folder)
    what = subject(preset, model, model.config.image_size)
    names = [name for name in DENSE if EXECUTIONS[name].is_installed and (compiled or name != "torch.compile")]
    rows = []
    for batch in batches:
        with tempfile.TemporaryDirectory() as exports:
            calls, memory = {}, {}
            for name in [*names, "condensed torch", OURS]:
                prepare(EXECUTIONS[name], what, Path(exports))
                calls[name], memory[name] = memory_of(
                    partial(build, EXECUTIONS[name], what, batch, Path(exports))
                )
            images = torch.randn(batch, 3, what.image_size, what.image_size)

            def official() -> object:
                with torch.no_grad():
                    return converted(images)  # noqa: B023

            calls[OFFICIAL] = official
            times = take_turns(calls, repeats)
        ours = times[OURS]
        for name, values in times.items():
            spent, ratio = median_of(values / batch), median_of(values / ours)
            row = {
                "batch": batch,
                "side": name,
                "milliseconds": spent.median,
                "low": spent.low,
                "high": spent.high,
            }
            row |= {"against_ours": ratio.median, "ratio_low": ratio.low, "ratio_high": ratio.high}
            rows.append(row | {"peak_memory": memory.get(name)})
            click.echo(f"batch {batch:<4}{name:<24}{spent.median:9.2f} ms per image{ratio.median:8.2f} x ours")
        fastest = min(names, key=lambda name: float(np.median(times[name])))
        click.echo(f"batch {batch}: fastest dense runtime: {fastest}")
    plans = [
        make_plan(condense(model), torch.randn(batch, 3, what.image_size, what.image_size)) for batch in batches
    ]
    layers = [
        {"batch": plan.batch, "layer": layer.name, "chosen": layer.chosen, **layer.milliseconds}
        for plan in plans
        for layer in plan.layers
    ]
    slowest = min(row["dense"] / row[row["chosen"]] for row in layers)
    click.echo(f"layers: our dense execution takes at least {slowest:.2f} x as long as the chosen one")
    settings = {"preset": preset, "steps": steps, "training_batch": training_batch, "threads": threads}
    settings |= {
        "repeats": repeats,
        "macs": what.macs,
        "dense_macs": what.dense_macs,
        "peak_gflops": gemm_gflops(),
    }
    save_result(f"inference-{preset}", {folder: "DIR"}, settings=settings, rows=rows, layers=layers)


if __name__ == "__main__":
    inference()
