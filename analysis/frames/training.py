"""The run store as tidy pandas frames, one function a frame; `COLUMNS` says what each column holds.

Every function takes a run store (its folder or a RunStore), a run, or a list of runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.text import inert
from condense_core.config import ModelConfig, RunConfig
from condense_core.store.run import Run, RunStore
from condense_core.store.schemas import sound
from condense_core.validation import from_dict

from .columns import COLUMNS
from .sources import Target, targets

Source = str | Path | RunStore | Run | Iterable[Run]


def of(source: Source) -> list[Run]:
    """The runs of a store, by name, or those given. Raises FileNotFoundError where there is no store."""
    if isinstance(source, Run):
        return [source]
    if isinstance(source, str | Path):
        if not (Path(source) / "store.json").is_file():
            raise FileNotFoundError(f"runs {str(source)!r}: no run store there (a store has a store.json)")
        source = RunStore(Path(source))
    return source.runs() if isinstance(source, RunStore) else list(source)


def _frame(name: str, rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows under the frame's columns, which an empty frame has too; what is not documented is left out."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS[name]))


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


def runs(source: Source) -> pd.DataFrame:
    """A row a run; one whose records are damaged is left out with a warning."""
    return _frame("runs", (row for run in of(source) for row in sound(_run_row, run)))


def study_runs(source: str | Path | RunStore, study: str, without: Collection[str] = ()) -> pd.DataFrame:
    """The begun runs of a study in a store, with label, role, size, residual, curve and seeds of their variant.

    In the study's order: base first; a path step by step, its base last. Runs `without` which it shall be are
    left out, and with a warning one whose records are damaged.
    """
    rows = []
    store = source if isinstance(source, RunStore) else RunStore(Path(source))
    record = store.read_study(study)
    for variant in record["variants"]:
        names = [name for name in variant["runs"] if name not in without]
        begun = [run for name in names for run in sound(store.named, name) if run.begun]
        columns = {name: variant[name] for name in ("role", "size", "residual")}
        columns |= {"variant": inert(variant["label"]), "curve": _inert(variant.get("curve"))}
        columns |= {"seeds": len(variant["runs"]), "path": record.get("path", False)}
        rows += [row | columns for run in begun for row in sound(_run_row, run)]
    return pd.DataFrame(rows)


def times(source: str | Path | RunStore) -> pd.DataFrame:
    """A row a network, execution and batch size of every benchmark in a store (`analysis.bench`)."""
    return _benchmarks("times", source)


def parts(source: str | Path | RunStore) -> pd.DataFrame:
    """A row a layer, part and execution of every benchmark in a store that took layers apart."""
    return _benchmarks("parts", source)


def _benchmarks(name: str, source: str | Path | RunStore) -> pd.DataFrame:
    store = source if isinstance(source, RunStore) else RunStore(Path(source))
    rows = (row for record in store.benchmarks() for row in record[name])
    return _frame(name, ({key: _inert(value) for key, value in row.items()} for row in rows))


def _inert(value: Any) -> Any:
    return inert(value) if isinstance(value, str) else value


def _run_row(run: Run) -> dict[str, Any]:
    record, result, status = run.record, run.result, run.status
    config, environment = from_dict(RunConfig, record["config"]), record["environment"]
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
        **{name: environment.get(name) for name in ("code", "torch")},
        "data_fingerprint": record["data_fingerprint"],
        "bit_identical": all(note["bit_identical"] for note in run.notes()),
    }


def epochs(source: Source) -> pd.DataFrame:
    """A row a run and epoch."""
    return _frame("epochs", ({"run": run.name, **row} for run in of(source) for row in run.epochs()))


def stages(source: Source) -> pd.DataFrame:
    """A row a run and stage record: cost, and error before and after the pruning step."""
    return _frame("stages", (_stage_row(run, record) for run in of(source) for record in run.stages()))


def _stage_row(run: Run, record: dict[str, Any]) -> dict[str, Any]:
    row = {name: record[name] for name in ("epoch", "step", "macs", "flops_paper", "params")}
    for moment in ("before", "after"):
        row[f"error_percent_{moment}"] = (record[moment] or {}).get("error_percent")
    return {"run": run.name, "stage": stage_name(record), **row}


def stage_name(record: dict[str, Any]) -> str:
    """'0' … 'C−1' or 'end'."""
    return "end" if record["stage"] is None else str(record["stage"])


def steps(source: Source) -> pd.DataFrame:
    """A row a pruning step: the error that it cost, and how far that came back before the next one."""
    return _frame("steps", (row for run in of(source) for row in _step_rows(run)))


def _step_rows(run: Run) -> Iterator[dict[str, Any]]:
    records = [record for record in run.stages() if record["stage"] not in (0, None)]
    ends = [*(record["epoch"] for record in records[1:]), float("inf")]
    for record, end in zip(records, ends, strict=False):  # without steps there is only the end
        row = _stage_row(run, record)
        before = row["error_percent_before"]
        later = [
            r for r in run.epochs() if row["epoch"] < r["epoch"] <= end and r["curve_error_percent"] is not None
        ]
        back = [
            r["epoch"] - row["epoch"]
            for r in later
            if before is not None and r["curve_error_percent"] <= before
        ]
        yield {
            **{name: row[name] for name in ("run", "stage", "epoch", "macs")},
            "error_before": before,
            "error_after": row["error_percent_after"],
            "error_recovered": min((r["curve_error_percent"] for r in later), default=None),
            "epochs_to_recover": min(back, default=None),
        }


def connections(source: Source, stage: str | None = None) -> pd.DataFrame:
    """A row a run, stage, target layer and source layer: what each layer still reads of each earlier one.

    Of one `stage` ('0' … 'C−1', 'end') or of all.
    """
    rows = (row for run in of(source) for row in _connection_rows(run, stage))
    return _frame("connections", rows)


def _connection_rows(run: Run, stage: str | None) -> Iterator[dict[str, Any]]:
    layers = list(targets(run.config.model))
    for record in run.stages():
        if stage not in (None, stage_name(record)):
            continue
        arrays = run.stage_arrays(record)
        for layer in layers:
            if f"mask.{layer.mask}" not in arrays:
                continue
            mask = arrays[f"mask.{layer.mask}"]
            weights = (arrays[f"importance.{layer.mask}"] * mask).sum(0, dtype=float)
            firsts = [first for _, first, _ in layer.sources]
            alive = np.add.reduceat(mask.sum(0), firsts).tolist()
            strength = np.add.reduceat(weights, firsts).tolist()
            for order, (source, first, last) in enumerate(layer.sources):
                connections = (last - first) * len(mask)
                yield {
                    "run": run.name,
                    "stage": stage_name(record),
                    **layer.columns,
                    "source": source,
                    "source_position": order,
                    "distance": len(layer.sources) - order,
                    "channels": last - first,
                    "connections": connections,
                    "alive": alive[order] / connections,
                    "mean_weight": strength[order] / ((last - first) * layer.outputs),
                }


def channels(source: Source, target: str | None = None) -> pd.DataFrame:
    """A row a run, target layer, group and input channel, of one `target` or of all: when it died.

    Raises ValueError where a run has no such target.
    """
    return _frame("channels", (row for run in of(source) for row in _channel_rows(run, target)))


def _channel_rows(run: Run, target: str | None) -> Iterator[dict[str, Any]]:
    known = [layer.label for layer in targets(run.config.model)]
    if target not in (None, *known):
        raise ValueError(f"target {target!r}: run {run.name} has {', '.join(known)}")
    for layer, died, importance in deaths(run, target):
        names = [source for source, first, last in layer.sources for _ in range(last - first)]
        for (group, channel), stage in np.ndenumerate(died):
            yield {
                "run": run.name,
                **layer.columns,
                "group": group,
                "channel": channel,
                "source": names[channel],
                "died": int(stage),
                "importance": float(importance[group, channel]),
            }


def deaths(run: Run, target: str | None = None) -> Iterator[tuple[Target, np.ndarray, np.ndarray]]:
    """Of one target or of all: in which stage each connection died (−1: alive), and its importance then.

    Both arrays are (groups, in_channels); what never was alive died in stage 0.
    """
    records = run.stages()
    arrays = [run.stage_arrays(record) for record in records]
    stages = np.array([-1 if record["stage"] is None else record["stage"] for record in records])
    for layer in targets(run.config.model):
        if target in (None, layer.label) and arrays and f"mask.{layer.mask}" in arrays[0]:
            alive = np.stack([stage[f"mask.{layer.mask}"] for stage in arrays])
            importance = np.stack([stage[f"importance.{layer.mask}"] for stage in arrays])
            first_dead = np.where(alive[-1], len(records) - 1, alive.argmin(0))
            died = np.where(alive[-1], -1, stages[first_dead]).astype(np.int8)
            yield layer, died, np.take_along_axis(importance, first_dead[None], 0)[0]


def layers(source: Source) -> pd.DataFrame:
    """A row a run, stage and layer: what each costs in each stage that the run has reached."""
    return _frame("layers", (row for run in of(source) for row in _layer_rows(run)))


def _layer_rows(run: Run) -> Iterator[dict[str, Any]]:
    config = run.config.model
    for record in run.stages():
        stage = config.last_stage if record["stage"] is None else record["stage"]
        for row in layer_costs(config, stage):
            yield {"run": run.name, "stage": stage_name(record), **row}


@lru_cache(maxsize=256)
def layer_costs(config: ModelConfig, stage: int) -> list[dict[str, Any]]:
    """The layers of a configuration in `stage`, as `layers` has them."""
    from condense_core.cost.of_config import cost_table

    return [
        {**asdict(layer), "layer": layer.name, "position": place, "block": _block_of(layer.name)}
        for place, layer in enumerate(cost_table(config, stage).layers)
    ]


def _block_of(name: str) -> str:
    part = name.removeprefix("blocks.").partition(".")[0]
    return part if part == "stem" or part.startswith(("block", "transition")) else "head"


def published(data: str) -> pd.DataFrame:
    """What papers print for a data set ('CIFAR-10', 'CIFAR-100', 'ImageNet'), each model once."""
    from analysis.networks.published import PUBLISHED

    rows = {row.model: row for row in PUBLISHED if row.data == data and row.flops is not None}
    return _frame(
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
