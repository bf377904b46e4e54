"""Figures of single runs: their training, their cost, and the times that were measured."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis import frames, plots
from analysis.plots import cost_parts
from condense_core.store import RunStore
from condense_core.tables import LEARNED

from . import alt_texts
from .report_figure import ReportFigure, StudyData


def life(data: StudyData) -> Iterator[ReportFigure]:
    """Draw the training of the base's first seed, and the pruning steps of all its seeds."""
    base = data.done[data.done.role == "base"]
    chosen = base if len(base) else data.done
    first = data.named(chosen.run.head(1))
    epochs, stages = frames.epochs(first), frames.stages(first)
    if len(epochs):
        yield ReportFigure(
            "life",
            "A run's life",
            f"Run {first[0].name}; dotted lines: a stage starts and connections are pruned.",
            alt_texts.life(epochs, stages),
            plots.run_life(epochs, stages),
            epochs.drop(columns=["run", "step"]),
        )
    steps = frames.steps(data.named(chosen.run)).dropna(subset=["error_before", "error_after"])
    split = epochs.curves_on.iloc[0] if len(epochs) else "validation"
    if len(steps):
        yield ReportFigure(
            "steps",
            "What each pruning step did",
            f"Error on the {split} images right before a step, right after it, and the "
            "lowest of an epoch before the next step; thin lines: single runs.",
            alt_texts.steps(steps),
            plots.pruning_steps(steps),
            steps,
        )


def falling_macs(data: StudyData) -> Iterator[ReportFigure]:
    """Draw how the MACs of the network fall during training."""
    stages = _stages_of_each_course(data)
    if len(stages):
        yield ReportFigure(
            "macs",
            "MACs during training",
            "Learned grouping starts dense and loses connections at the start of each stage; a grouping that "
            "is fixed from the start keeps all of its connections.",
            alt_texts.macs(stages),
            plots.macs_during_training(stages),
            stages[["variant", "stage", "epoch", "macs", "flops_paper", "params"]],
        )


def _stages_of_each_course(data: StudyData) -> pd.DataFrame:
    """Return the stages of one run per course of pruning, with the base's growth, connectivity and size."""
    if data.is_tracked:
        chosen = data.done.drop_duplicates("variant")
        return frames.stages(data.named(chosen.run)).merge(chosen[["run", "variant", "grouping"]], on="run")
    base = data.runs[data.runs.role == "base"]
    if base.empty:
        return data.runs.head(0)
    runs, like = data.done, base.iloc[0]
    chosen = runs[
        (runs[["growth", "connectivity", "size"]] == like[["growth", "connectivity", "size"]]).all(axis=1)
    ]
    course = chosen.assign(grouping=chosen.grouping.replace("unstructured", "learned"))  # they fall alike
    chosen = chosen[~course.duplicated(["grouping", "groups", "condense_factor", "pruning"])]
    return frames.stages(data.named(chosen.run)).merge(chosen[["run", "variant", "grouping"]], on="run")


def cost(data: StudyData) -> Iterator[ReportFigure]:
    """Draw the MACs of one run by layer: the base's, or a learned one."""
    order = [(row.role != "base", row.grouping not in LEARNED) for row in data.done.itertuples()]
    run = data.done.assign(order=order).sort_values("order", kind="stable").run.iloc[0]
    layers = frames.layers(data.named([run]))
    parts = cost_parts(layers)
    yield ReportFigure(
        "cost",
        "Where the cost is",
        f"MACs of run {run}, layer by layer and block by block. Hatched: removed by the pruning steps.",
        alt_texts.cost(parts),
        plots.cost_by_layer(layers),
        parts.groupby(["place", "block", "part"], sort=False, as_index=False).macs.sum(),
    )


def times(store: RunStore) -> Iterator[ReportFigure]:
    """Draw the newest times of `analysis.bench`, with earlier ones of the same machine, threads and batch."""
    times, parts = frames.times(store), frames.parts(store)
    if times.empty:
        return
    newest = times[times.date == times.date.max()].sort_values("batch").iloc[0]
    alike = (times[["processor", "threads", "batch"]] == newest[["processor", "threads", "batch"]]).all(axis=1)
    shown = times[alike].drop_duplicates(["model", "execution"], keep="last")
    where = f"{newest.processor}, {newest.threads} threads, batches of {newest.batch}"
    yield ReportFigure(
        "time",
        "What MACs do not tell",
        "Measured median time of an image with its 95 % interval against the MACs left after pruning, "
        f"{where}. Dense executions multiply by zeros where connections are pruned.",
        alt_texts.times(shown),
        plots.time_against_macs(shown),
        shown,
    )
    if len(parts):
        yield _waterfall(parts)


def _waterfall(parts: pd.DataFrame) -> ReportFigure:
    last = parts[parts.date == parts.date.max()]
    last = last[(last.model == last.model.iloc[0]) & (last.batch == last.batch.iloc[0])]
    return ReportFigure(
        "waterfall",
        "From MACs to milliseconds",
        f"{last.model.iloc[0]}, layer by layer, summed by part: dense in torch, the same if its 1×1 "
        "convolutions took time as their MACs say, condensed in torch, and condensed with our kernels.",
        alt_texts.waterfall(last),
        plots.waterfall(last),
        last.groupby(["execution", "part"], sort=False, as_index=False).milliseconds.sum(),
    )
