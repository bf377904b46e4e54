"""Figures of a study's results: effects, interactions, the trade-off and the grid."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis import frames, plots, stats
from analysis.axes import MATCH_TOLERANCE
from analysis.masks import MASK_QUESTIONS, MASK_VARIANTS

from . import alt_texts
from .report_figure import ReportFigure, StudyData

PUBLISHED_DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}
SUMMARY_DATA = ["variant", "curve", "macs", "flops_paper", "params", "error_mean", "error_sd", "n"]


MARKS = (
    "Mean test error over the seeds with its 95 % interval. Filled, with a line over the sizes: variants "
    "that differ from the base only in the study's first factor. Open: the rest of the grid. Marks are set "
    "a little apart, in the order of their costs. Dotted: the Pareto front of the true costs."
)
MARKS_OF_TRACKED = (
    "Mean test error over the seeds with its 95 % interval, a mark for each variant. Dotted: the Pareto front."
)


def tradeoffs(data: StudyData) -> Iterator[ReportFigure]:
    """Draw the test error against MACs (or the paper's FLOPs) and against parameters."""
    if not data.is_tested:
        return
    printed = PUBLISHED_DATA.get(str(data.runs.data.iloc[0]).partition(":")[0])
    points = frames.published(printed or "CIFAR-10")
    text = MARKS_OF_TRACKED if data.is_tracked else MARKS
    where = "On the same axes" if printed else "Below, on other data and only for orientation"
    yield ReportFigure(
        "tradeoff",
        "Error against cost",
        f"{text} {where}: the published figures for {printed or 'CIFAR-10'}.",
        alt_texts.tradeoff(data.summary),
        plots.tradeoff(data.summary, "flops_paper" if printed else "macs", points, beside=not printed),
        data.summary[SUMMARY_DATA],
    )
    yield ReportFigure(
        "tradeoff-params",
        "Error against parameters",
        text,
        alt_texts.tradeoff(data.summary, "params"),
        plots.tradeoff(data.summary, "params"),
        data.summary[SUMMARY_DATA],
    )


def effects(data: StudyData) -> Iterator[ReportFigure]:
    """Draw the main effects and the interactions of the study's factors."""
    effects, interactions = (stats.of_kind(data.compared, kind) for kind in (stats.MAIN, stats.INTERACTION))
    if effects.empty:
        return
    answers = effects.factor.isin(MASK_QUESTIONS)
    if answers.any():
        yield _masks(data, effects[answers])
        effects = effects[~answers]
    if effects.empty:
        return
    yield ReportFigure(
        "effects",
        "Effects",
        f"{_what(data)}. The intervals are "
        "corrected together. Filled and blue: 0 is outside. Filled and green: it is within the margin that "
        "matters, which is shaded. Ticks: single seeds.",
        alt_texts.effects(effects, interactions),
        plots.effects(effects, interactions, stats.effects_by_seed(data.runs)),
        pd.concat([effects, interactions], ignore_index=True),
    )
    if len(interactions):
        factors = ("grouping", "growth", "connectivity", "groups", "condense_factor")
        columns = [name for name in ("variant", *factors, "error_mean", "n") if name in data.grid]
        yield ReportFigure(
            "interactions",
            "Two factors at a time",
            "Mean test error of the cells of the grid. Parallel lines: the factors do not interact.",
            alt_texts.interactions(interactions),
            plots.interactions(data.summary),
            data.grid[columns],
        )


def _what(data: StudyData) -> str:
    if data.is_tracked:
        return "Difference in test error between each variant and the first"
    return "Difference in test error between two levels, the mean over the other factors"


def _masks(data: StudyData, effects: pd.DataFrame) -> ReportFigure:
    """Draw the ways to come to masks, and what their differences say."""
    helps = "; ".join(f"{name}: {how.help}" for name, how in MASK_VARIANTS.items())
    return ReportFigure(
        "masks",
        "Is it the mask, the way to it, or the dense start?",
        "Above: mean test error with its own 95 % interval, at equal cost and epochs. Below: differences, "
        "paired by seed; their intervals are corrected together. Filled and blue: 0 is outside. Filled and "
        f"green: it is within the margin that matters, which is shaded. Ticks: single seeds. {helps}.",
        alt_texts.masks(effects),
        plots.masks(effects, data.summary, stats.effects_by_seed(data.runs)),
        effects,
    )


def grid(data: StudyData) -> Iterator[ReportFigure]:
    """Draw the test errors of the grid."""
    if len(data.grid) < 2 or (data.runs.study == "masks").any():  # its own figure has the errors
        return
    matched = (data.grid.residual.abs() <= MATCH_TOLERANCE).all()
    yield ReportFigure(
        "grid",
        "The grid at equal cost" if matched else "The grid",
        "Mean test error of every variant with its own 95 % interval.",
        alt_texts.grid(data.summary),
        plots.equal_cost(data.summary),
        data.grid[[*SUMMARY_DATA, "residual"]],
    )
