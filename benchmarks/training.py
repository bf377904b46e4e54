"""A training step on the CPU: the official code, our reference and our fast execution in turn.

    python benchmarks/training.py --official DIR [--preset condensenet-86 --batch 64 --threads 2 --repeats 5]

A step is forward pass, loss with group lasso, backward pass and Nesterov SGD, on noise, in stage 0
and in the last stage. All sides take turns; times are medians after a warm-up. Peak memory is that of a process
that makes three steps and nothing else (Linux).
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from parity import official_network
from torch import Tensor, nn

from condense_core import PRESETS, CondenseNet
from condense_core.condensation import group_lasso, learned_layers, prune
from condense_core.machine import processor
from condense_core.runs import environment

RESULTS = Path(__file__).parent / "results"
LASSO = 1e-5
SIDES = ("official", "official, channels_last", "reference", "fast")


def sgd(model: nn.Module, fused: bool = False) -> torch.optim.Optimizer:
    """The paper's optimizer; the official code's is not fused."""
    return torch.optim.SGD(model.parameters(), 0.1, 0.9, nesterov=True, weight_decay=1e-4, fused=fused)


def step_of(side: str, preset: str, last: bool, batch: int, folder: Path) -> Callable[[], Tensor]:
    """A training step of one side, which returns the loss."""
    config = PRESETS[preset]
    size = config.image_size
    draws = torch.Generator().manual_seed(0)
    images, labels = (
        torch.randn(batch, 3, size, size, generator=draws),
        torch.arange(batch) % config.num_classes,
    )
    if side.startswith("official"):
        model = official_network(folder, config, repaired=False)
        layers = [module for module in model.modules() if hasattr(module, "lasso_loss")]
        progress = 0.99 if last else 0.001

        def loss_of() -> Tensor:
            return F.cross_entropy(model(images, progress), labels) + LASSO * sum(m.lasso_loss for m in layers)

        if last:  # the official code prunes once a forward pass, stage by stage
            with torch.no_grad():
                for stage in range(config.condense_factor):
                    model(images[:2], (stage + 0.5) / (2 * (config.condense_factor - 1)))
    else:
        model = CondenseNet(config, seed=0)
        model.execution = side
        for layer in learned_layers(model).values():
            prune(layer, layer.condense_factor - 1 if last else 0)

        def loss_of() -> Tensor:
            loss = F.cross_entropy(model(images), labels)
            return loss if last else loss + LASSO * group_lasso(model)  # the last stage has no lasso

    if side != "official":
        model, images = (
            model.to(memory_format=torch.channels_last),
            images.to(memory_format=torch.channels_last),
        )
    optimizer = sgd(model, fused=not side.startswith("official"))

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def measure(arguments: argparse.Namespace, last: bool) -> dict[str, list[float]]:
    """Seconds of every side's steps, the sides in turn."""
    steps = {side: step_of(side, arguments.preset, last, arguments.batch, arguments.official) for side in SIDES}
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for repeat in range(arguments.warm_up + arguments.repeats):
        for side, step in steps.items():
            began = time.perf_counter()
            step()
            if repeat >= arguments.warm_up:
                times[side].append(time.perf_counter() - began)
    return times


def peak_memory(side: str, last: bool) -> int:
    """Largest resident memory in bytes of a process of its own that makes three steps."""
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", side, *(["--last"] if last else [])]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Measure, print a table, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, required=True, help="a checkout of the official code")
    parser.add_argument("--preset", default="condensenet-86", choices=PRESETS)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--last", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        step = step_of(
            arguments.memory_of, arguments.preset, arguments.last, arguments.batch, arguments.official
        )
        for _ in range(3):
            step()
        status = Path("/proc/self/status").read_text()
        print(1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1]))
        return
    rows = []
    for last in (False, True):
        times = measure(arguments, last)
        for side in SIDES:
            median = statistics.median(times[side])
            row = {
                "stage": "last" if last else "0",
                "side": side,
                "seconds": round(median, 4),
                "ratio": round(median / statistics.median(times["official"]), 3),
                "peak_memory": peak_memory(side, last),
                "all_seconds": [round(value, 4) for value in times[side]],
            }
            rows.append(row)
            memory = row["peak_memory"] / 1e9
            print(
                f"stage {row['stage']:<5}{side:<26}{median:8.3f} s{row['ratio']:8.3f}{memory:8.2f} GB",
                flush=True,
            )
    result = {
        "command": " ".join(["python", "benchmarks/training.py", *(a for a in sys.argv[1:])]),
        "date": date.today().isoformat(),
        "processor": processor(),
        "environment": environment(),
        "settings": {name: getattr(arguments, name) for name in ("preset", "batch", "threads", "repeats")},
        "rows": rows,
    }
    result["command"] = result["command"].replace(str(arguments.official), "DIR")
    (RESULTS / f"training-{arguments.preset}.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
