"""Frames of runs, epochs, stages and pruning steps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.axes import fork_level
from analysis.text import inert
from condense_core.config import RunConfig
from condense_core.store import Run, RunStore, TrackedConfig, is_store, skip_damaged

from .columns import COLUMNS, typed

OWN = "own"  # growth and connectivity of a network of one's own
Source = str | Path | RunStore | Run | Iterable[Run]


def runs_in(source: Source) -> list[Run]:
    """Return the runs of a store by name, or the given runs. Raise FileNotFoundError if there is no store."""
    if isinstance(source, Run):
        return [source]
    if isinstance(source, str | Path | RunStore):
        return store_at(source).runs()
    return list(source)


def store_at(source: str | Path | RunStore) -> RunStore:
    """Return a run store, or the one of a folder. Raise FileNotFoundError if there is none."""
    if isinstance(source, RunStore):
        return source
    if not is_store(Path(source)):
        raise FileNotFoundError(f"runs {str(source)!r}: no run store there (a store has a store.json)")
    return RunStore(Path(source))


def tidy_frame(name: str, rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Make a frame of rows with its documented columns, which an empty frame has too; drop all others."""
    return typed(name, pd.DataFrame(list(rows), columns=list(COLUMNS[name])))


def variant_columns(config: RunConfig | TrackedConfig) -> dict[str, Any]:
    """Return the columns that distinguish the variants of a study: a level of every axis, and the width.

    A tracked run has the axes that its condensation knows.
    """
    if isinstance(config, TrackedConfig):
        return {
            "variant": inert(config.variant),
            "grouping": "learned",
            "growth": OWN,
            "connectivity": OWN,
            **{name: config.common(name) for name in ("groups", "condense_factor")},
            **{name: getattr(config, name) for name in ("group_lasso", "pruning", "criterion")},
            "growth_rate": None,
        }
    model, recipe = config.model, config.recipe
    factors = model.condense_factors
    return {
        "variant": model.label,
        "grouping": model.grouping,
        "growth": model.growth_schedule,
        "connectivity": model.connectivity,
        "groups": model.groups,
        "condense_factor": None if factors else model.condense_factor,
        "condense_factors": "-".join(map(str, factors)) if factors else None,
        **{name: getattr(recipe, name) for name in ("group_lasso", "pruning", "criterion")},
        "growth_rate": model.growth[0],
        "fork": fork_level(config),
        "parent": config.fork.parent if config.fork else None,
    }


def runs(source: Source) -> pd.DataFrame:
    """Return one row per run; a run with damaged records is left out with a warning."""
    return tidy_frame("runs", (row for run in runs_in(source) for row in skip_damaged(_run_row, run)))


def study_runs(source: str | Path | RunStore, study: str, without: Collection[str] = ()) -> pd.DataFrame:
    """Return the started runs of a study, with label, role, size, residual, curve and seeds of their variant.

    They are in the study's order: base first; a path step by step, its base last. Runs named in `without` are
    left out, and so are runs with damaged records, with a warning.
    """
    rows = []
    store = store_at(source)
    record = store.read_study(study)
    for variant in record["variants"]:
        names = [name for name in variant["runs"] if name not in without]
        begun = [run for name in names for run in skip_damaged(store.named, name) if run.started]
        columns = {name: variant.get(name) for name in ("role", "size", "residual")}
        columns |= {"variant": inert_text(variant["label"]), "curve": inert_text(variant.get("curve"))}
        columns |= {"seeds": len(variant["runs"]), "path": record.get("path", False)}
        columns |= {"study": record["settings"].get("study")}
        rows += [row | columns for run in begun for row in skip_damaged(_run_row, run)]
    return typed("study_runs", pd.DataFrame(rows))


def inert_text(value: Any) -> Any:
    """Return a text without control characters, and any other value as it is."""
    return inert(value) if isinstance(value, str) else value


def _run_row(run: Run) -> dict[str, Any]:
    record, result, status = run.record, run.result, run.status
    config, environment = run.tracked if run.is_tracked else run.config, record["environment"]
    costs = ("macs", "flops_paper", "params", "training_macs")
    results = (*costs, "test_error_percent", "test_loss", "test_images")
    return {
        "run": run.name,
        **variant_columns(config),
        "data": inert(config.data if isinstance(config, TrackedConfig) else config.data.name),
        "seed": config.seed,
        "state": status["state"],
        "reason": status.get("reason"),
        **{name: result.get(name) for name in results},
        "seconds": run.seconds(),
        **{name: environment.get(name) for name in ("code", "torch", "processor")},
        "data_fingerprint": record["data_fingerprint"],
        "bit_identical": all(note["bit_identical"] for note in run.notes()),
    }


def epochs(source: Source) -> pd.DataFrame:
    """Return one row per run and epoch."""
    return tidy_frame("epochs", ({"run": run.name, **row} for run in runs_in(source) for row in run.epochs()))


def stages(source: Source) -> pd.DataFrame:
    """Return one row per run and stage record: cost, and error before and after the pruning step."""
    return tidy_frame("stages", (_stage_row(run, record) for run in runs_in(source) for record in run.stages()))


def _stage_row(run: Run, record: dict[str, Any]) -> dict[str, Any]:
    row = {name: record[name] for name in ("epoch", "step", "macs", "flops_paper", "params")}
    for moment in ("before", "after"):
        row[f"error_percent_{moment}"] = (record[moment] or {}).get("error_percent")
    return {"run": run.name, "stage": stage_name(record), **row}


def stage_name(record: dict[str, Any]) -> str:
    """Return the name of a record's stage: '0' … 'C−1' or 'end'."""
    return "end" if record["stage"] is None else str(record["stage"])


def steps(source: Source) -> pd.DataFrame:
    """Return one row per pruning step: the error before and after it, and its recovery until the next step."""
    return tidy_frame("steps", (row for run in runs_in(source) for row in _step_rows(run)))


def _step_rows(run: Run) -> Iterator[dict[str, Any]]:
    records = [record for record in run.stages() if record["stage"] not in (0, None)]
    ends = [*(record["epoch"] for record in records[1:]), float("inf")]
    for record, end in zip(records, ends, strict=False):  # a run without steps has only the end
        row = _stage_row(run, record)
        before = row["error_percent_before"]
        errors = {
            epoch["epoch"] - row["epoch"]: epoch["curve_error_percent"]
            for epoch in run.epochs()
            if row["epoch"] < epoch["epoch"] <= end and epoch["curve_error_percent"] is not None
        }
        recovered = [after for after, error in errors.items() if before is not None and error <= before]
        yield {
            **{name: row[name] for name in ("run", "stage", "epoch", "macs")},
            "error_before": before,
            "error_after": row["error_percent_after"],
            "error_recovered": min(errors.values(), default=None),
            "epochs_to_recover": min(recovered, default=None),
        }
