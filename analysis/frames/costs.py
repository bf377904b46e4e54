"""Frames of costs and of measured times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from condense_core.config import ModelConfig, RunConfig
from condense_core.store import Run, RunStore
from condense_core.validation import nearest

from .sources import Places, reading_layers
from .training import Source, inert_text, runs_in, stage_name, store_at, tidy_frame


def times(source: str | Path | RunStore) -> pd.DataFrame:
    """Return one row per network, execution and batch size of every benchmark in a store (`analysis.bench`)."""
    return _benchmarks("times", source)


def parts(source: str | Path | RunStore) -> pd.DataFrame:
    """Return one row per layer, part and execution of every benchmark that timed single layers."""
    return _benchmarks("parts", source)


def _benchmarks(name: str, source: str | Path | RunStore) -> pd.DataFrame:
    rows = (row for record in store_at(source).benchmarks() for row in record[name])
    return tidy_frame(name, ({key: inert_text(value) for key, value in row.items()} for row in rows))


def layers(source: Source) -> pd.DataFrame:
    """Return one row per run, stage and layer: the cost of each layer in every stage so far."""
    return tidy_frame("layers", (row for run in runs_in(source) for row in _layer_rows(run)))


def _layer_rows(run: Run) -> Iterator[dict[str, Any]]:
    if run.is_tracked:
        yield from _tracked_rows(run)
        return
    config = run.config.model
    for record in run.stages():
        stage = config.last_stage if record["stage"] is None else record["stage"]
        for row in layer_costs(config, stage):
            yield {"run": run.name, "stage": stage_name(record), **row}


def factors(source: Source) -> pd.DataFrame:
    """Return one row per run and 1×1 layer: its condense factor, and what the layer costs in the end."""
    return tidy_frame("factors", (row for run in runs_in(source) for row in _factor_rows(run.name, run.config)))


def _factor_rows(run: str, config: RunConfig) -> Iterator[dict[str, Any]]:
    model = config.model
    costs = [row for row in layer_costs(model, model.last_stage) if row["operator"] == "conv1x1"]
    for place, factor, cost in zip(reading_layers(model), model.layer_factors, costs, strict=True):
        sizes = {name: cost[name] for name in ("in_channels", "macs")}
        yield {"run": run, **place.columns, "condense_factor": factor, **sizes}


def _tracked_rows(run: Run) -> Iterator[dict[str, Any]]:
    """Yield the costs that the run wrote when it entered each stage."""
    places = Places(run.tracked)
    for record in run.stages():
        for position, layer in enumerate(record.get("layers", ())):
            name = layer["name"]
            more = {"layer": name, "position": position, "block": places.block(name)}
            yield {"run": run.name, "stage": stage_name(record), **layer, **more}


def layer_costs(config: ModelConfig, stage: int) -> list[dict[str, Any]]:
    """Return the rows of `layers` for a configuration in `stage`."""
    from condense_core.cost import cost_table

    return [
        {**asdict(layer), "layer": layer.name, "position": place, "block": _block_of(layer.name)}
        for place, layer in enumerate(cost_table(config, stage).layers)
    ]


def _block_of(name: str) -> str:
    part = name.removeprefix("blocks.").partition(".")[0]
    return part if part == "stem" or part.startswith(("block", "transition")) else "head"


def published(data: str) -> pd.DataFrame:
    """Return the published figures for a data set ('CIFAR-10', 'CIFAR-100', 'ImageNet'), each model once.

    Raise ValueError for another name.
    """
    from analysis.networks import PUBLISHED

    if data not in (known := dict.fromkeys(row.data for row in PUBLISHED)):
        raise ValueError(f"data {data!r}: {nearest(data, known)}")
    rows = {row.model: row for row in PUBLISHED if row.data == data and row.flops is not None}
    return tidy_frame(
        "published",
        (
            {
                "model": row.model,
                "family": _family(row.model),
                "data": row.data,
                "flops": row.flops * 1e6,
                "params": None if row.params is None else row.params * 1e6,
                "error_percent": row.error_percent,
                "source": f"{row.source}, {row.url}",
            }
            for row in rows.values()
            if row.flops is not None
        ),
    )


FAMILIES = ("CondenseNet", "DenseNet", "MobileNet", "ShuffleNet", "pruned", "other")


def _family(model: str) -> str:
    if model.endswith("-pruned"):
        return "pruned"
    return next((family for family in FAMILIES if model.lower().startswith(family.lower())), "other")
