"""A run's life: loss, error, learning rate and MACs by epoch, and the effect of each pruning step."""

from __future__ import annotations

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .nothing import says_if_nothing
from .style import (
    COLOURS,
    COUNTS,
    DASHES,
    GREY,
    PALETTE,
    WIDTH,
    legend_below,
    one_run,
    series_looks,
    stacked,
    style,
)


@says_if_nothing("No epoch is done yet.", "epoch")
def run_life(epochs: pd.DataFrame, stages: pd.DataFrame) -> Figure:
    """Draw loss, accuracy, learning rate and MACs of one run by epoch; lines mark the start of a stage."""
    one_run(epochs)
    with style():
        figure, panels = stacked([1.8] * 4, sharex=True)
        loss, accuracy, rate, macs = panels
        split = str(epochs.curves_on.iloc[0]) if len(epochs) else "validation"
        for axes, train, curve in (
            (loss, epochs.train_loss, epochs.curve_loss),
            (accuracy, 100 - epochs.train_error_percent, 100 - epochs.curve_error_percent),
        ):
            axes.plot(epochs.epoch, train, color=GREY, ls=DASHES[1], lw=1.5, label="training batches")
            axes.plot(epochs.epoch, curve, color=COLOURS[0], lw=1.8, label=f"{split} images")
        rate.plot(epochs.epoch, epochs.learning_rate, color=COLOURS[0], lw=1.8)
        macs.step(stages.epoch, stages.macs, where="post", color=COLOURS[0], lw=1.8)
        macs.yaxis.set_major_formatter(COUNTS)
        titles = ("Loss", "Accuracy (%)", "Learning rate", "MACs of the network")
        for axes, title in zip((loss, accuracy, rate, macs), titles, strict=True):
            axes.set_title(title, fontsize="medium", loc="left")
            _mark_stages(axes, stages)
        for axes in (loss, rate, macs):
            axes.set_ylim(bottom=0)
        macs.set_xlabel("Epoch")
        legend_below(figure, accuracy)
        sns.despine(figure)
    return figure


def _mark_stages(axes: Axes, stages: pd.DataFrame) -> None:
    entries = stages[~stages.stage.isin(["0", "end"])]
    for row in entries.itertuples():
        axes.axvline(row.epoch, color=GREY, lw=0.9, ls=":", zorder=0)
        if len(entries) <= 8:
            place: Any = {
                "xycoords": axes.get_xaxis_transform(),
                "xytext": (2, -1),
                "textcoords": "offset points",
            }
            axes.annotate(f"s{row.stage}", (row.epoch, 1), va="top", fontsize="x-small", color=GREY, **place)


@says_if_nothing("No pruning step yet.", "error_before", "error_after")
def pruning_steps(steps: pd.DataFrame) -> Figure:
    """Draw the error right before each pruning step, right after it, and the lowest before the next one.

    `steps` is `frames.steps`; for several runs the mean is drawn over a thin line per run.
    """
    moments = {"error_before": "before", "error_after": "right after", "error_recovered": "recovered"}
    with style():
        stages = sorted(dict.fromkeys(steps.stage), key=int)
        figure = Figure(figsize=(WIDTH, 3.8))
        axes = figure.subplots()
        for place, stage in enumerate(stages):
            part = steps[steps.stage == stage][list(moments)].astype(float)
            x = [place - 0.25, place, place + 0.25]
            if len(part) > 1:
                axes.plot(x, part.to_numpy().T, color=GREY, lw=0.7, alpha=0.5, zorder=1)
            axes.plot(x, part.mean(), color=GREY, lw=1.4, zorder=2)
            looks = zip(x, moments.items(), MOMENT_COLOURS, "osD", strict=True)
            for offset, (name, label), colour, marker in looks:
                shown = label if place == 0 else None
                axes.plot(offset, part[name].mean(), marker, color=colour, ms=6.5, label=shown, zorder=3)
        axes.set_xticks(range(len(stages)), [f"stage {stage}" for stage in stages])
        axes.set_ylabel("Error (%)")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.1)
        axes.set_xlabel("Pruning step into")
        legend_below(figure, axes, title=None if (runs := steps.run.nunique()) < 2 else f"mean of {runs} runs")
        sns.despine(figure)
    return figure


MOMENT_COLOURS = (COLOURS[0], COLOURS[3], COLOURS[2])


@says_if_nothing("No stage has started yet.", "macs")
def macs_during_training(stages: pd.DataFrame) -> Figure:
    """Draw the MACs of the network by epoch, one line per variant; they fall when connections are pruned.

    `stages` is `frames.stages` with the columns `variant` and `grouping`, one run per variant.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 4.2))
        axes = figure.subplots()
        variants = {str(variant): part for variant, part in stages.groupby("variant", sort=False)}
        looks = series_looks(list(variants))
        one_each = stages.groupby("grouping").variant.nunique().max() == 1 and PALETTE.keys() >= {
            *stages.grouping
        }
        for place, (variant, part) in enumerate(variants.items()):
            grouping = part.grouping.iloc[0]
            colour = PALETTE[grouping] if one_each else looks[variant]["color"]
            line = DASHES[place % len(DASHES)]  # a broken line shows the lines below it
            axes.step(part.epoch, part.macs, where="post", color=colour, ls=line, lw=2, label=variant)
        axes.set_xlabel("Epoch")
        axes.set_ylabel("MACs of the network")
        axes.yaxis.set_major_formatter(COUNTS)
        axes.set_ylim(bottom=0)
        legend_below(figure, axes)
        sns.despine(figure)
    return figure
