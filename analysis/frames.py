"""The run store as tidy pandas frames; every column with its unit.

runs         a row a run: variant, seed, state, macs, flops_paper, params, training_macs, test_error_percent …
epochs       a row a run and epoch: losses, errors in percent, learning_rate, macs
stages       a row a run and stage record: cost, errors in percent before and after the pruning step
connections  a row a run, stage, target layer and source layer: share of connections alive, mean |W|
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from condense_core.config import ModelConfig, RunConfig
from condense_core.runs import Run, RunStore


def variant_columns(config: RunConfig) -> dict[str, Any]:
    """What tells the variants of a study apart: a level of every axis, and the width."""
    model, recipe = config.model, config.recipe
    return {
        "variant": model.label,
        "grouping": model.grouping,
        "growth": model.growth_schedule,
        "connectivity": model.connectivity,
        "groups": model.groups,
        "condense_factor": model.condense_factor,
        **{name: getattr(recipe, name) for name in ("group_lasso", "pruning", "criterion")},
        "growth_rate": model.growth[0],
    }


def runs(store: RunStore) -> pd.DataFrame:
    """All runs of a store."""
    return pd.DataFrame([_run_row(run) for run in store.runs()])


def study_runs(store: RunStore, study: str) -> pd.DataFrame:
    """The begun runs of a study, with label, role, size, residual and curve of their variant, its seeds.

    In the study's order: base first; a path step by step, its base last.
    """
    rows = []
    record = store.read_study(study)
    for variant in record["variants"]:
        begun = [run for name in variant["runs"] if (run := Run(store.root / name)).record]
        columns = {name: variant[name] for name in ("role", "size", "residual")}
        columns |= {"variant": variant["label"], "curve": variant.get("curve"), "seeds": len(variant["runs"])}
        columns["path"] = record.get("path", False)
        rows += [row | columns for row in map(_run_row, begun)]
    return pd.DataFrame(rows)


def _run_row(run: Run) -> dict[str, Any]:
    config, result, status = run.config, run.result, run.status
    names = (
        "macs",
        "flops_paper",
        "params",
        "training_macs",
        "test_error_percent",
        "test_loss",
        "test_images",
    )
    return {
        "run": run.name,
        **variant_columns(config),
        "data": config.data.name,
        "seed": config.seed,
        "state": status["state"],
        "reason": status.get("reason"),
        **{name: result.get(name) for name in names},
        "seconds": run.seconds(),
    }


def epochs(runs: Iterable[Run]) -> pd.DataFrame:
    """The epochs of some runs."""
    return pd.DataFrame([{"run": run.name, **row} for run in runs for row in run.epochs()])


def stages(runs: Iterable[Run]) -> pd.DataFrame:
    """The stage records of some runs; the end has stage 'end'."""
    return pd.DataFrame([_stage_row(run, record) for run in runs for record in run.stages()])


def _stage_row(run: Run, record: dict[str, Any]) -> dict[str, Any]:
    row = {name: record[name] for name in ("epoch", "step", "macs", "flops_paper", "params")}
    for moment in ("before", "after"):
        row[f"error_percent_{moment}"] = (record[moment] or {}).get("error_percent")
    return {"run": run.name, "stage": stage_name(record), **row}


def stage_name(record: dict[str, Any]) -> str:
    """'0' … 'C−1' or 'end'."""
    return "end" if record["stage"] is None else str(record["stage"])


def connections(runs: Iterable[Run]) -> pd.DataFrame:
    """What each layer reads of each source layer, at every stage of some runs (paper Figure 9)."""
    return pd.DataFrame([row for run in runs for row in _connection_rows(run)])


def _connection_rows(run: Run) -> Iterator[dict[str, Any]]:
    model = run.config.model
    layers = list(sources(model))
    for record in run.stages():
        tensors = run.stage_tensors(record)
        for position, layer in enumerate(layers):
            if f"mask.{layer.mask}" not in tensors:
                continue
            mask, importance = (tensors[f"{kind}.{layer.mask}"].float() for kind in ("mask", "importance"))
            for order, (source, first, last) in enumerate(layer.sources):
                yield {
                    "run": run.name,
                    "stage": stage_name(record),
                    "target": layer.label,
                    "target_position": position,
                    "block": layer.block,
                    "source": source,
                    "source_position": order,
                    "channels": last - first,
                    "alive": mask[:, first:last].mean().item(),
                    "mean_weight": importance[:, first:last].mean().item() * len(mask) / layer.outputs,
                }


class Target:
    """A 1×1 convolution: its mask's name, its label, and which of its inputs come from which source layer."""

    def __init__(self, mask: str, label: str, block: int, outputs: int, read: list[tuple[str, int]]):
        self.mask, self.label, self.block, self.outputs = mask, label, block, outputs
        ends = [sum(width for _, width in read[: i + 1]) for i in range(len(read))]
        self.sources = [(name, end - width, end) for (name, width), end in zip(read, ends, strict=True)]


def sources(model: ModelConfig) -> Iterator[Target]:
    """Every 1×1 convolution of a network in order, with the layers whose outputs it reads.

    Labels are block.layer ('2.3'), 'stem' and 't1' for the first transition's 1×1 convolution.
    """
    read = [("stem", 2 * model.growth[0])]
    for block, (layers, rate) in enumerate(zip(model.stages, model.growth, strict=True), start=1):
        if block > 1 and model.connectivity == "block":
            label = f"t{block - 1}"
            width = model.transition_channels(sum(width for _, width in read))
            yield Target(f"blocks.transition{block - 1}.conv", label, block - 1, width, list(read))
            read = [(label, width)]
        for layer in range(layers):
            label = f"{block}.{layer + 1}"
            yield Target(
                f"blocks.block{block}.{layer}.conv1", label, block, model.bottleneck * rate, list(read)
            )
            read.append((label, rate))
