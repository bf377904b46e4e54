"""Training parity: train the official network and ours from the same weights, on the same batches, in float64.

    python benchmarks/parity.py --official DIR --groups 4 --condense-factor 4

Both go through a whole schedule with all stages. Losses, live weights, batch statistics and masks are compared
at every step; the constant 1e-3 that the official lasso adds for each dropped connection is subtracted. With
--repaired the official lasso ends by the condense factor, so that only other differences remain.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.studies.options import CommaList
from condense_core import DataConfig, ModelConfig, RecipeConfig, RunConfig, Trainer, load_official
from condense_core.data import Batch, Dataset, DecodedImages, load
from condense_core.grouping import live_weights, masked_layers
from condense_core.official.tensors import official_parts

SAME = 1e-7  # relative: rounding in float64 stays below it, unless a ReLU flips on it; another loss does not
DROPPED_LASSO = 1e-3  # sqrt of the floor under a squared norm that the official lasso adds for each (layers.py)
IMAGE_SIZE = 32


class DoubleImages(DecodedImages):
    """Images in float64."""

    def training_batches(self, *arguments: Any) -> Iterator[Batch]:
        """Yield augmented batches."""
        return ((images.double(), labels) for images, labels in super().training_batches(*arguments))

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield all images in order."""
        return ((images.double(), labels) for images, labels in super().evaluation_batches())


def digits(count: int) -> Dataset:
    """Load scikit-learn's digits, enlarged to 32 pixels: `count` to train on, a few to evaluate on."""

    def enlarge(split: Any, first: int) -> DoubleImages:
        pixels = F.interpolate(split.images[:first].float(), IMAGE_SIZE).to(torch.uint8)
        return DoubleImages(pixels, split.labels[:first], split.normalise, split.augmentation)

    data = load(DataConfig("digits"))
    return Dataset(data.name, data.classes, enlarge(data.train, count), None, enlarge(data.test, 32))


def official_network(folder: Path, model: ModelConfig, repaired: bool) -> nn.Module:
    """Return the official network of a configuration, freshly initialised, in float64."""
    sys.path.insert(0, str(folder))
    layers, models = importlib.import_module("layers"), importlib.import_module("models")
    layers.LearnedGroupConv.global_progress = 0.0
    if repaired:
        shipped = layers.LearnedGroupConv.lasso_loss.fget
        layers.LearnedGroupConv.lasso_loss = property(lambda layer: _repaired(layer, shipped))
    kind = models.condensenet if model.connectivity == "full" else models.densenet_LGC
    return kind(
        Namespace(
            stages=list(model.stages),
            growth=list(model.growth),
            bottleneck=model.bottleneck,
            group_1x1=model.groups,
            group_3x3=model.groups_3x3,
            condense_factor=model.condense_factor,
            reduction=model.reduction,
            dropout_rate=0,
            num_classes=model.num_classes,
            data="cifar10" if model.stride == 1 else "imagenet",
        )
    )


def _repaired(layer: Any, shipped: Any) -> Any:
    """Return the official lasso, ended by the condense factor instead of the groups."""
    if layer._reach_stage(layer.condense_factor - 1):
        return 0
    groups, layer._reach_stage = layer._reach_stage, lambda stage: False
    try:
        return shipped(layer)
    finally:
        layer._reach_stage = groups


def same_start(official: nn.Module, config: RunConfig, dataset: Dataset) -> Trainer:
    """Return our trainer with the official network's weights, loaded through its checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "start.pth.tar"
        torch.save({"state_dict": official.state_dict()}, path)
        model = config.model
        ours = load_official(path, groups=model.groups, condense_factor=model.condense_factor)
    trainer = Trainer(config, dataset)
    trainer.model.load_state_dict(ours.state_dict())
    return trainer


def official_step(official: nn.Module, optimizer: Any, batch: Batch, trainer: Trainer) -> Tensor:
    """Make a step as main.py does; return its loss without the constant for dropped connections."""
    for group in optimizer.param_groups:
        group["lr"] = trainer.learning_rate
    images, labels = batch
    loss = F.cross_entropy(official(images, trainer.step / trainer.total_steps), labels)
    weight, constant = trainer.config.recipe.group_lasso, 0.0
    if weight > 0:
        layers = [module for module in official.modules() if hasattr(module, "lasso_loss")]
        for layer in layers:
            lasso = layer.lasso_loss
            if isinstance(lasso, Tensor):
                constant += weight * DROPPED_LASSO * float((1 - layer._mask[: layer.groups]).sum())
            loss = loss + weight * lasso
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach() - constant


@torch.no_grad()
def largest_difference(official: nn.Module, trainer: Trainer) -> float:
    """Return the largest max |Δ| / max |reference| of live weights, other parameters and batch statistics."""
    theirs = official.state_dict()
    worst = 0.0
    for name, part in official_parts(trainer.model).items():
        for kind, own in part.state_dict().items():
            if kind in ("mask", "num_batches_tracked"):
                continue
            reference = theirs[f"{name}.{kind}"]
            if kind == "weight" and hasattr(part, "mask"):
                reference = reference * live_weights(part)
            scale = reference.abs().max().clamp(min=1e-12)
            worst = max(worst, ((own - reference).abs().max() / scale).item())
    return worst


def same_masks(official: nn.Module, trainer: Trainer) -> bool:
    """Return whether every layer has lost the same connections."""
    theirs = [module._mask for module in official.modules() if hasattr(module, "_mask")]
    ours = [live_weights(layer) for layer in masked_layers(trainer.model).values()]
    return all(own.equal(mask.bool()) for own, mask in zip(ours, theirs, strict=True))


def compare(folder: Path, config: RunConfig, repaired: bool) -> dict[str, Any]:
    """Train both; return one row per stage and the first step at which they differ."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(config.seed)
    dataset = digits(8 * config.recipe.batch_size)
    official = official_network(folder, config.model, repaired)
    trainer = same_start(official, config, dataset)
    recipe = config.recipe
    optimizer = torch.optim.SGD(
        official.parameters(),
        recipe.learning_rate,
        recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    rows: list[dict[str, Any]] = []
    first_difference: dict[str, Any] | None = None
    for epoch in range(recipe.epochs):
        for batch in dataset.training_batches(config.seed, epoch, recipe.batch_size):
            list(trainer.enter_stages())
            theirs = official_step(official, optimizer, batch, trainer)
            ours = trainer.train_on(*batch)
            row = {
                "step": trainer.step,
                "stage": trainer.stage,
                "loss": abs((ours - theirs) / theirs).item(),
                "weights": largest_difference(official, trainer),
                "same_masks": same_masks(official, trainer),
            }
            rows.append(row)
            if first_difference is None and (max(row["loss"], row["weights"]) > SAME or not row["same_masks"]):
                first_difference = row
    return {"first_difference": first_difference, "steps": len(rows), "stages": _by_stage(rows)}


def _by_stage(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    stages = sorted({row["stage"] for row in rows})
    parts = [[row for row in rows if row["stage"] == stage] for stage in stages]
    return [
        {
            "stage": stage,
            "steps": len(part),
            "loss": max(row["loss"] for row in part),
            "weights": max(row["weights"] for row in part),
            "same_masks": all(row["same_masks"] for row in part),
        }
        for stage, part in zip(stages, parts, strict=True)
    ]


@click.command()
@click.option(
    "--official", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True
)
@click.option("--stages", type=CommaList(int), default="2-2-2", show_default=True)
@click.option("--growth", type=CommaList(int), default="8-16-32", show_default=True)
@click.option("--connectivity", type=click.Choice(["full", "block"]), default="full", show_default=True)
@click.option("--groups", type=int, default=4, show_default=True)
@click.option("--condense-factor", type=int, default=4, show_default=True)
@click.option("--steps", type=int, default=96, show_default=True, help="rounded to whole epochs of 8 steps")
@click.option("--batch-size", type=int, default=16, show_default=True)
@click.option("--learning-rate", type=float, default=0.1, show_default=True)
@click.option("--group-lasso", type=float, default=1e-4, show_default=True)
@click.option("--repaired", is_flag=True, help="end the official lasso by the condense factor")
@click.option("--json", "as_json", is_flag=True)
def parity(
    folder: Path,
    stages: tuple[int, ...],
    growth: tuple[int, ...],
    connectivity: Any,
    groups: int,
    condense_factor: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    group_lasso: float,
    repaired: bool,
    as_json: bool,
) -> None:
    """Train the official network and ours side by side, and report the first difference."""
    try:
        model = ModelConfig(
            stages,
            growth,
            connectivity=connectivity,
            groups=groups,
            condense_factor=condense_factor,
            image_size=IMAGE_SIZE,
            stem_stride=1,
        )
        recipe = RecipeConfig(
            epochs=max(1, round(steps / 8)),
            batch_size=batch_size,
            learning_rate=learning_rate,
            group_lasso=group_lasso,
        )
        config = RunConfig(model, recipe)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    result = {"settings": dataclasses.asdict(config), "repaired": repaired, "torch": torch.__version__}
    result |= compare(folder, config, repaired)
    if as_json:
        click.echo(json.dumps(result, indent=1))
        return
    click.echo(f"{'stage':>5} {'steps':>5} {'loss':>9} {'weights':>9}  masks")
    for row in result["stages"]:
        masks = "same" if row["same_masks"] else "differ"
        click.echo(f"{row['stage']:>5} {row['steps']:>5} {row['loss']:>9.1e} {row['weights']:>9.1e}  {masks}")
    first, total = result["first_difference"], result["steps"]
    message = (
        first and f"First difference above {SAME:g}: step {first['step']} of {total}, stage {first['stage']}."
    )
    click.echo(message or f"Equal to {SAME:g} throughout, {total} steps.")


if __name__ == "__main__":
    parity()
