"""Time a training step on the CPU: the official code, our reference and our fast execution in turn.

    python benchmarks/training.py --official DIR [--preset condensenet-86 --batch 64 --threads 2 --repeats 5]

A step is forward pass, loss with group lasso, backward pass and Nesterov SGD, on noise, in stage 0 and in the
last stage. All sides take turns; times are medians after a warm-up. Peak memory is that of a process that
makes three steps and nothing else (Linux).
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from parity import official_network
from save_result import save_result
from torch import Tensor, nn

from condense_core import PRESETS, CondenseNet, ModelConfig, RecipeConfig, RunConfig, fast
from condense_core.condensation import group_lasso, learned_layers, prune
from condense_core.config import Execution
from condense_core.learning import momentum_descent

LASSO = 1e-5
SIDES = ("official", "official, channels_last", "reference", "fast")

Step = Callable[[], Tensor]  # make a training step and return its loss


def noise(config: ModelConfig, batch: int) -> tuple[Tensor, Tensor]:
    """Return images and labels of a batch: (N, 3, H, W) and (N,)."""
    size, draws = config.image_size, torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, size, size, generator=draws), torch.arange(batch) % config.num_classes


def our_step(config: ModelConfig, execution: Execution, batch: int, last: bool) -> Step:
    """Return our training step on noise, in stage 0 or in the last one, in channels_last."""
    images, labels = noise(config, batch)
    images = images.to(memory_format=torch.channels_last)
    model = CondenseNet(config, seed=0).to(memory_format=torch.channels_last)
    for layer in learned_layers(model).values():
        prune(layer, layer.condense_factor - 1 if last else 0)
    if programs := fast.programs(model, RunConfig(config, execution=execution)):
        optimizer, lasso = momentum_descent(model, RecipeConfig()), 0.0 if last else LASSO

        def by_program() -> Tensor:
            loss, _, penalty = programs.train(images, labels, optimizer, lasso)
            return torch.tensor(loss + penalty)

        return by_program

    def loss_of() -> Tensor:
        loss = F.cross_entropy(model(images), labels)
        return loss if last else loss + LASSO * group_lasso(model)  # the last stage has no lasso

    return _step(model, loss_of, fused=True)


def official_step(config: ModelConfig, batch: int, last: bool, folder: Path, channels_last: bool) -> Step:
    """Return the same step of the official code, whose optimizer is not fused."""
    images, labels = noise(config, batch)
    model = official_network(folder, config, repaired=False)
    layers = [module for module in model.modules() if hasattr(module, "lasso_loss")]
    progress = 0.99 if last else 0.001
    if last:  # the official code prunes once a forward pass, stage by stage
        with torch.no_grad():
            for stage in range(config.condense_factor):
                model(images[:2], (stage + 0.5) / (2 * (config.condense_factor - 1)))
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)

    def loss_of() -> Tensor:
        return F.cross_entropy(model(images, progress), labels) + LASSO * sum(m.lasso_loss for m in layers)

    return _step(model, loss_of, fused=False)


def _step(model: nn.Module, loss_of: Step, fused: bool) -> Step:
    """Return a step: loss, backward pass and the paper's optimizer."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, nesterov=True, weight_decay=1e-4, fused=fused)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def step_of(side: str, preset: str, last: bool, batch: int, folder: Path) -> Step:
    """Return the training step of one side."""
    config = PRESETS[preset]
    if side.startswith("official"):
        return official_step(config, batch, last, folder, side.endswith("channels_last"))
    return our_step(config, side, batch, last)


def times_in_turn(steps: Mapping[str, Step], warm_up: int, repeats: int) -> dict[str, list[float]]:
    """Return the seconds of every side's steps, with the sides taking turns."""
    times: dict[str, list[float]] = {side: [] for side in steps}
    for repeat in range(warm_up + repeats):
        for side, step in steps.items():
            start = time.perf_counter()
            step()
            if repeat >= warm_up:
                times[side].append(time.perf_counter() - start)
    return times


def peak_memory(side: str, last: bool) -> int:
    """Return the largest resident memory in bytes of a new process that makes three steps."""
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", side, *(["--last"] if last else [])]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_own_memory(step: Step) -> None:
    """Make three steps and print the largest resident memory in bytes."""
    for _ in range(3):
        step()
    status = Path("/proc/self/status").read_text()
    click.echo(1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1]))


@click.command()
@click.option(
    "--official", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True
)
@click.option("--preset", type=click.Choice(list(PRESETS)), default="condensenet-86", show_default=True)
@click.option("--batch", type=int, default=64, show_default=True)
@click.option("--threads", type=int, default=2, show_default=True)
@click.option("--repeats", type=int, default=5, show_default=True)
@click.option("--warm-up", type=int, default=2, show_default=True)
@click.option("--memory-of", type=click.Choice(SIDES), hidden=True)
@click.option("--last", is_flag=True, hidden=True)
def training(
    folder: Path,
    preset: str,
    batch: int,
    threads: int,
    repeats: int,
    warm_up: int,
    memory_of: str | None,
    last: bool,
) -> None:
    """Measure all sides, print a table and save the result."""
    torch.set_num_threads(threads)
    if memory_of:
        print_own_memory(step_of(memory_of, preset, last, batch, folder))
        return
    rows = []
    for in_last in (False, True):
        steps = {side: step_of(side, preset, in_last, batch, folder) for side in SIDES}
        times = times_in_turn(steps, warm_up, repeats)
        for side in SIDES:
            median = statistics.median(times[side])
            row = {
                "stage": "last" if in_last else "0",
                "side": side,
                "seconds": round(median, 4),
                "ratio": round(median / statistics.median(times["official"]), 3),
                "peak_memory": peak_memory(side, in_last),
                "all_seconds": [round(value, 4) for value in times[side]],
            }
            rows.append(row)
            memory = row["peak_memory"] / 1e9
            stage = f"stage {row['stage']:<5}"
            click.echo(f"{stage}{side:<26}{median:8.3f} s{row['ratio']:8.3f}{memory:8.2f} GB")
    settings = {"preset": preset, "batch": batch, "threads": threads, "repeats": repeats}
    save_result(f"training-{preset}", {folder: "DIR"}, settings=settings, rows=rows)


if __name__ == "__main__":
    training()
