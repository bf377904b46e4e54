"""Time a network with every execution, and take it apart."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.text import say

if TYPE_CHECKING:
    from .runtimes import Execution, Subject


def subject_named(name: str, store: Any) -> Subject:
    """The network of a name, to be timed. Raises ValueError if there is none."""
    from analysis.networks import find_network
    from condense_core import CondenseNet, ModelConfig
    from condense_core.condensation import prune_to_stage

    from .runtimes import subject

    network, image_size = find_network(name, store)
    if isinstance(network, ModelConfig):
        config, network = network, CondenseNet(network, seed=0)
        prune_to_stage(network, config.last_stage, config.last_stage)
    return subject(Path(name).name, network, image_size)


def measure_networks(
    subjects: list[Subject], executions: list[Execution], batches: list[int], repeats: int, per_layer: bool
) -> dict[str, Any]:
    """Everything that is measured, as plain values."""
    import torch

    from condense_core.machine import processor
    from condense_core.store import environment

    from .latency import gemm_gflops

    peak = gemm_gflops()
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    machine = {
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "peak_gflops": peak,
        "date": moment,
    }
    record: dict[str, Any] = {"format": 1, "environment": environment(), **machine, "repeats": repeats}
    record |= {"times": [], "ties": [], "parts": []}
    with tempfile.TemporaryDirectory() as folder:
        for batch in batches:
            for what in subjects:
                say(f"{what.name}, batch {batch} ...", err=True)
                rows, undecided = _time(what, executions, batch, repeats, Path(folder))
                record["times"] += [row | machine for row in rows]
                record["ties"] += undecided
    if per_layer:
        for what in subjects:
            say(f"{what.name}, layer by layer ...", err=True)
            record["parts"] += _take_apart(what, batches[0], repeats, moment)
    return record


def _time(
    what: Subject, executions: list[Execution], batch: int, repeats: int, folder: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    from .latency import median_of, memory_of, take_turns, ties
    from .runtimes import build, prepare

    calls, memory = {}, {}
    for execution in executions:
        if execution.condensed and what.condensed is None:
            continue
        prepare(execution, what, folder)
        make = partial(build, execution, what, batch, folder)
        calls[execution.name], memory[execution.name] = memory_of(make)
    times = take_turns(calls, repeats)
    rows = []
    for execution in executions:
        if execution.name in times:
            spent = median_of(times[execution.name] / batch)
            computed = what.macs if execution.condensed else what.dense_macs
            row = {
                "model": what.name,
                "execution": execution.name,
                "batch": batch,
                "image_size": what.image_size,
                "macs": what.macs,
                "computed_macs": computed,
                "params": what.params,
                "milliseconds": spent.median,
                "low": spent.low,
                "high": spent.high,
                "gflops": 2e-6 * computed / spent.median,
                "peak_memory": memory[execution.name],
            }
            rows.append(row)
    named = {"model": what.name, "batch": batch}
    return rows, [named | asdict(tie) for tie in ties(times)]


def _take_apart(what: Subject, batch: int, repeats: int, moment: str) -> list[dict[str, Any]]:
    import torch

    from .waterfall import waterfall

    images = torch.randn(batch, 3, what.image_size, what.image_size, generator=torch.Generator().manual_seed(0))
    frame = waterfall(what, images, repeats)
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{"model": what.name, "batch": batch, **row, "date": moment} for row in rows]
