"""Errors, differences and what the initial weights decide, over a setting that studies differ in."""

from __future__ import annotations

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator, PercentFormatter

from .agreement import draw_decided
from .nothing import says_if_nothing
from .style import (
    GREY,
    LOG_RANGE,
    NO_FINISHED,
    apart,
    interval_arms,
    legend_below,
    series_looks,
    stacked,
    style,
)


@says_if_nothing(NO_FINISHED, "error_mean")
def series(errors: pd.DataFrame, differences: pd.DataFrame, decided: pd.DataFrame, setting: str) -> Figure:
    """Draw each variant's test error over `value`, below it its difference to the first variant.

    The frames are those of `StudySeries` and, with columns `variant` and `value`, `frames.decided` at epoch 0:
    the third panel shows the share of the final connections that the weights as drawn would have chosen.
    """
    names, values = list(dict.fromkeys(errors.variant)), sorted(errors.value.unique())
    looks = series_looks(names)
    shown = [len(errors) > 0, len(differences) > 0, len(decided) > 0]
    with style():
        figure, axes_of_each = stacked([2.7] * sum(shown), sharex=True)
        panels = iter(axes_of_each)
        top = axes = next(panels)
        errors, differences = (_apart(frame, names) for frame in (errors, differences))
        for name in names:
            _line(top, errors[errors.variant == name], "error_mean", looks[name] | {"label": name})
        top.set_ylabel("Test error (%)")
        if len(differences):
            axes = next(panels)
            _differences(axes, differences, looks, names[0])
        if len(decided):
            axes = next(panels)
            draw_decided(axes, decided, "value", looks)
            axes.set(ylabel="Final connections that the\nweights as drawn choose", ylim=(0, 1.03))
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        _value_axis(axes, values, setting)
        legend_below(figure, top)
        sns.despine(figure)
    return figure


def _apart(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Move the marks of the variants slightly apart, so that no bar hides another."""
    if frame.empty:
        return frame
    places = frame.variant.map(names.index) - (len(names) - 1) / 2
    return frame.assign(value=apart(frame.value, frame.value, places))


def _line(axes: Axes, part: pd.DataFrame, column: str, look: dict[str, Any]) -> None:
    part = part.sort_values("value")
    axes.errorbar(part.value, part[column], yerr=interval_arms(part), ms=5, lw=1.6, elinewidth=1.4, **look)


def _differences(axes: Axes, differences: pd.DataFrame, looks: dict[str, Any], base: str) -> None:
    axes.axhline(0, color=GREY, lw=1)
    for margin in differences.meaningful.head(1):
        axes.axhspan(-margin, margin, color=GREY, alpha=0.15, lw=0, zorder=0)
    for name, part in differences.groupby("variant", sort=False):
        ends = part.assign(error_mean=part.difference, error_low=part.low, error_high=part.high)
        _line(axes, ends, "difference", looks[str(name)])
    axes.set_ylabel(f"Difference to\n{base}\n(points)")


def _value_axis(axes: Axes, values: list[float], setting: str) -> None:
    """Mark the values that were tried, on a logarithmic axis if their range is wide."""
    if values[0] > 0 and values[-1] > LOG_RANGE * values[0]:
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.set_xlabel(setting.replace("_", " ").capitalize())
