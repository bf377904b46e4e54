"""Learned groups beside Torch-Pruning, on the same networks at the same multiply-adds.

    pip install torch-pruning
    python benchmarks/torch_pruning_beside.py [--networks resnet50,densenet121 --image-size 224]
    python benchmarks/torch_pruning_beside.py --data DIR [--seeds 3 --epochs 8 --images 5000]

The first form prunes networks of torchvision as they are drawn: ours by learned groups in their last stage,
condensed; Torch-Pruning by whole channels of least norm, as many as give the same multiply-adds. It compares
outputs before and after the removal, parameters, bytes of the ONNX file, milliseconds in each runtime, and
whether it ran at all. The second form trains a ResNet with four narrow bottlenecks on folders of images
(`train/CLASS/…`, `test/CLASS/…`), all sides for as many epochs, and compares their test errors.
Results: `results/torch_pruning.json` and `results/torch_pruning-errors.json`.
"""

from __future__ import annotations

import copy
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
import torch_pruning as tp
import torchvision
from save_result import save_result
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision import datasets, transforms

from analysis.engines import reason_of
from analysis.studies.options import CommaList
from analysis.timing.latency import median_of, take_turns
from condense_core import Condensation, condense, cost_table, learn_groups
from condense_core.condensation import prune_to_stage
from condense_core.deploy import export_file, installed_runtimes
from condense_core.deploy.outputs import relative_difference

GROUPS = FACTOR = 4
NETWORKS = (
    "resnet18,resnet50,densenet121,mobilenet_v2,mobilenet_v3_small,shufflenet_v2_x1_0,regnet_y_400mf,"
    "efficientnet_b0,googlenet,squeezenet1_1,convnext_tiny"
)
TRIES = 12  # of ratios, until the multiply-adds agree
SELECT = {"resnet18": "layer*.conv*"}  # its 1×1 convolutions are a hundredth of its cost
BATCH, RATE = 64, 0.1

Call = Callable[[], object]
Data = tuple[TensorDataset, TensorDataset]


def network(name: str, classes: int = 1000) -> nn.Module:
    """Return a network of torchvision, as it is drawn for seed 0."""
    torch.manual_seed(0)
    given = {"aux_logits": False} if name == "googlenet" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torchvision.models.get_model(name, weights=None, num_classes=classes, **given).eval()


def ours(model: nn.Module, images: Tensor, select: Any = None) -> tuple[nn.Module, nn.Module]:
    """Return the masked network in the last stage, and the condensed one."""
    masked = copy.deepcopy(model)
    learn_groups(masked, groups=GROUPS, condense_factor=FACTOR, select=select)
    prune_to_stage(masked, FACTOR - 1, FACTOR - 1)
    return masked, condense(masked, images)


def pruned_by_channels(model: nn.Module, images: Tensor, macs: int, size: int) -> nn.Module:
    """Return a copy that Torch-Pruning made as small as `macs` multiply-adds, by bisection of the ratio."""
    low, high, best = 0.0, 0.95, model
    for _ in range(TRIES):
        ratio = (low + high) / 2
        pruned = copy.deepcopy(model)
        last = [part for part in pruned.modules() if isinstance(part, nn.Linear)][-1:]
        last = last or [part for part in pruned.modules() if isinstance(part, nn.Conv2d)][-1:]
        importance = tp.importance.MagnitudeImportance(p=2)
        pruner = tp.pruner.MagnitudePruner(
            pruned, images, importance, pruning_ratio=ratio, global_pruning=False, ignored_layers=last
        )
        pruner.step()
        found = cost_table(pruned, image_size=size).macs
        if found > macs:
            low = ratio
        else:
            high, best = ratio, pruned
    if best is model:
        raise ValueError(f"no ratio up to {high} gives {macs:,} multiply-adds")
    return best.eval()


@torch.no_grad()
def compared(name: str, size: int, repeats: int) -> dict[str, Any]:
    """Return what both sides made of a network."""
    model, images = network(name), torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    row: dict[str, Any] = {"network": name, "dense": described(model, model, size)}
    sides: dict[str, Callable[[], tuple[nn.Module, nn.Module]]] = {
        "ours": lambda: ours(model, images, SELECT.get(name))
    }
    sides["torch-pruning"] = lambda: (model, pruned_by_channels(model, images, row["ours"]["macs"], size))
    made = {"dense": model}
    for side, make in sides.items():
        try:
            with torch.enable_grad():
                before, after = make()
            row[side] = described(after, model, size)
            row[side]["removal_changes_outputs_by"] = relative_difference(after(images), before(images))
            made[side] = after
        except Exception as error:  # of any kind: it is a result
            row[side] = {"failed": reason_of(error)}
    return row | {"milliseconds": times(made, images[:1], repeats)}


def described(model: nn.Module, dense: nn.Module, size: int) -> dict[str, Any]:
    """Return the cost of a network, also of the dense one's."""
    own, whole = cost_table(model, image_size=size), cost_table(dense, image_size=size)
    parameters = sum(own.numel() for own in model.parameters())
    return {"macs": own.macs, "share_of_macs": round(own.macs / whole.macs, 4), "params": parameters}


def times(made: dict[str, nn.Module], image: Tensor, repeats: int) -> dict[str, dict[str, Any]]:
    """Return median milliseconds for an image, in torch and in each runtime, and the bytes of the files."""
    found: dict[str, dict[str, Any]] = {"bytes": {}}
    calls: dict[str, dict[str, Call]] = {"torch": {side: partial(model, image) for side, model in made.items()}}
    with tempfile.TemporaryDirectory() as folder:
        for side, model in made.items():
            path = Path(folder) / f"{side}.onnx"
            try:
                found["bytes"][side] = export_file(model, path, image, model(image)).bytes
                for runtime in installed_runtimes():
                    run = runtime.load(path.read_bytes(), tuple(image.shape))
                    calls.setdefault(str(runtime), {})[side] = partial(run, image.numpy())
            except Exception as error:  # of any kind: it is a result
                found.setdefault("not exported", {})[side] = reason_of(error)
    for runtime_name, own in calls.items():
        spent = take_turns(own, repeats)
        found[runtime_name] = {side: round(median_of(values).median, 3) for side, values in spent.items()}
    return found


def bottlenecks(seed: int) -> nn.Module:
    """Return a ResNet of four narrow bottlenecks, for images of 32 pixels and 10 classes."""
    torch.manual_seed(seed)
    block = torchvision.models.resnet.Bottleneck
    model = torchvision.models.resnet.ResNet(block, [1, 1, 1, 1], num_classes=10, width_per_group=16)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.MaxPool2d(2)
    return model


def trained(side: str, seed: int, data: Data, epochs: int, macs: int) -> nn.Module:
    """Train one side: ours prunes in its stages, the other one once, after half of the epochs."""
    model, (train, _), size = bottlenecks(seed), data, 32
    if side == "ours":
        learn_groups(model, groups=GROUPS, condense_factor=FACTOR)
    batches = -(-len(train) // BATCH)
    optimizer = descent(model)
    condensation = Condensation(model, optimizer, steps=epochs * batches) if side == "ours" else None
    draws = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        if side == "torch-pruning" and epoch == epochs // 2:
            model = pruned_by_channels(model, torch.randn(2, 3, size, size), macs, size).train()
            optimizer = descent(model)
        for number, batch in enumerate(torch.randperm(len(train), generator=draws).split(BATCH)):
            progress = (epoch * batches + number) / (epochs * batches)
            for group in optimizer.param_groups:
                group["lr"] = 0.5 * RATE * (1 + math.cos(math.pi * progress))
            images, labels = train[batch]
            images = augmented(images, draws)
            loss = F.cross_entropy(model(images), labels)
            loss = loss + condensation.penalty() if condensation else loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if condensation:
                condensation.step()
    return condense(model, torch.randn(2, 3, size, size)) if side == "ours" else model.eval()


def descent(model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of both sides."""
    return torch.optim.SGD(model.parameters(), RATE, 0.9, weight_decay=1e-4, nesterov=True)


def augmented(images: Tensor, draws: torch.Generator) -> Tensor:
    """Mirror half of the images, and shift all by up to 4 pixels."""
    mirrored = torch.rand(len(images), generator=draws) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    down, right = torch.randint(0, 9, (2,), generator=draws).tolist()
    return F.pad(images, (4, 4, 4, 4))[:, :, down : down + 32, right : right + 32]


@torch.no_grad()
def error_percent(model: nn.Module, test: TensorDataset) -> float:
    """Return the top-1 error on the test images."""
    wrong = sum(
        int((model(images).argmax(1) != labels).sum())
        for images, labels in (test[part] for part in torch.arange(len(test)).split(500))
    )
    return 100 * wrong / len(test)


def read(folder: Path, images: int) -> Data:
    """Read as many training images of every class, and all test images, normalised."""
    normalise = transforms.Normalize([0.49, 0.48, 0.45], [0.25, 0.24, 0.26])
    steps = transforms.Compose([transforms.ToTensor(), normalise])
    found = []
    for part, limit in (("train", images), ("test", None)):
        files = datasets.ImageFolder(folder / part, steps)
        by_class = len(files) // len(files.classes)
        kept = [n for n in range(len(files)) if limit is None or n % by_class < limit // len(files.classes)]
        pixels, labels = zip(*(files[n] for n in kept), strict=True)
        found.append(TensorDataset(torch.stack(pixels), torch.tensor(labels)))
    return found[0], found[1]


def errors(folder: Path, seeds: int, epochs: int, images: int) -> Iterator[dict[str, Any]]:
    """Yield the test error of each side and seed."""
    data, macs = read(folder, images), 0
    for seed in range(seeds):
        for side in ("ours", "torch-pruning", "dense"):
            start = time.perf_counter()
            model = trained(side, seed, data, epochs, macs)
            spent, own = round(time.perf_counter() - start, 1), cost_table(model, image_size=32).macs
            macs = own if side == "ours" else macs
            error = error_percent(model, data[1])
            yield {"side": side, "seed": seed, "error_percent": error, "macs": own, "seconds": spent}


@click.command()
@click.option("--networks", type=CommaList(str), default=NETWORKS)
@click.option("--image-size", default=224, show_default=True)
@click.option("--repeats", type=click.IntRange(6), default=9, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--seeds", default=3, show_default=True)
@click.option("--epochs", default=8, show_default=True)
@click.option("--images", default=5000, show_default=True)
def beside(
    networks: list[str], image_size: int, repeats: int, threads: int, data: Path | None, seeds: int,
    epochs: int, images: int,
) -> None:  # fmt: skip
    """Compare both sides, print what comes and save the result."""
    torch.set_num_threads(threads)
    peer, rows = version("torch-pruning"), []
    if data:
        for row in errors(data, seeds, epochs, images):
            rows.append(row)
            click.echo(row)
        settings = {"seeds": seeds, "epochs": epochs, "images": images, "torch_pruning": peer}
        save_result("torch_pruning-errors", settings=settings, rows=rows)
        return
    for name in networks:
        rows.append(compared(name, image_size, repeats))
        click.echo(rows[-1])
    settings = {"image_size": image_size, "threads": threads, "repeats": repeats, "torch_pruning": peer}
    save_result("torch_pruning", settings=settings, rows=rows)


if __name__ == "__main__":
    beside()
