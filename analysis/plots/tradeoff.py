"""Error against cost: the trade-off with its Pareto front and published points, and the grid at one cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.frames import FAMILIES
from analysis.stats import pareto

from .nothing import nothing, says_if_nothing
from .style import (
    GREY,
    LABELS,
    NO_FINISHED,
    TEXT,
    TITLES,
    WIDTH,
    apart,
    begins_at_zero,
    cost_axis,
    interval_arms,
    label_points,
    legend_below,
    series_looks,
    stacked,
    style,
)

COSTS = {
    "macs": "MACs of the final network",
    "flops_paper": "FLOPs of the final network (as the paper counts)",
    "params": "Parameters",
}
PUBLISHED_AXES = {"flops": "FLOPs as published", "params": "Parameters as published"}
PUBLISHED_COST = {"flops_paper": "flops", "macs": "flops", "params": "params"}


@says_if_nothing(NO_FINISHED, "error_mean")
def tradeoff(
    summary: pd.DataFrame, cost: str = "macs", published: pd.DataFrame | None = None, beside: bool = False
) -> Figure:
    """Draw the test error against `cost` (macs, flops_paper or params), every variant with its 95 % interval.

    One curve per level of the leading axis, all else as in the base; open marks: the rest of the grid; dotted:
    the Pareto front. `published` (`frames.published`) adds published points, on the same axes or on their own
    below (`beside`).
    """
    if cost not in COSTS:
        raise ValueError(f"cost {cost!r}: must be one of {', '.join(COSTS)}")
    with style():
        figure, (ours, *others) = stacked([4.6, 3.8] if beside and published is not None else [4.6])
        every = summary[summary.n > 0].sort_values(cost, kind="stable")
        _front(ours, every, cost)
        _curves(ours, every, cost, list(dict.fromkeys(summary.curve.dropna())))
        _rest_of_grid(ours, every, cost)
        costs = every[cost]
        if published is not None and not beside:  # on the same axes
            _published(ours, published, PUBLISHED_COST[cost])
            costs = pd.concat([costs, published[PUBLISHED_COST[cost]]])
        cost_axis(ours, COSTS[cost], costs)
        ours.set_ylabel("Test error (%)")
        shared = published is not None and not beside
        low, high = (0, max(_ends(every)[1], ours.get_ylim()[1])) if shared else _ends(every)
        ours.set_ylim(low, high or None)
        if others:
            ours.set_title("this study", fontsize="medium")
            _published_panel(others[0], published, PUBLISHED_COST[cost])
        legend_below(figure, ours, *others)
        sns.despine(figure)
        if published is not None:
            _name_published(others[0] if others else ours, published, PUBLISHED_COST[cost])
    return figure


@says_if_nothing("Nothing is published for this data set.", "error_percent")
def published(points: pd.DataFrame, cost: str = "flops") -> Figure:
    """Draw published test errors against `cost` (flops or params): `frames.published` of one data set."""
    if cost not in PUBLISHED_AXES:
        raise ValueError(f"cost {cost!r}: must be one of {', '.join(PUBLISHED_AXES)}")
    if points[cost].isna().all():
        return nothing(f"No {cost} are published for this data set.")
    with style():
        figure, (axes,) = stacked([4.2])
        _published_panel(axes, points, cost)
        legend_below(figure, axes)
        sns.despine(figure)
        _name_published(axes, points, cost)
    return figure


def _published_panel(axes: Axes, points: pd.DataFrame, cost: str) -> None:
    _published(axes, points, cost)
    cost_axis(axes, PUBLISHED_AXES[cost], points[cost].dropna())
    axes.set_ylabel("Test error (%)")
    axes.set_title(f"published, {points.data.iloc[0]}" if len(points) else "published", fontsize="medium")


def _published(axes: Axes, points: pd.DataFrame, cost: str) -> None:
    """Draw published points with open marks, so that they are not taken for our measurements."""
    palette = sns.color_palette("colorblind", 10)
    colours = [palette[3], palette[4], palette[5], palette[9], GREY, GREY]
    looks = dict(zip(FAMILIES, zip(colours, "oshX*P", strict=True), strict=True))
    named = {"pruned": "others, pruned", "other": "others"}
    points = points.dropna(subset=[cost])
    for name in [family for family in FAMILIES if (points.family == family).any()]:
        part, (colour, marker) = points[points.family == name], looks[name]
        label = f"{named.get(name, name)} (published)"
        axes.plot(part[cost], part.error_percent, marker, mfc="none", mec=colour, mew=1.4, ms=6, label=label)
    axes.margins(x=0.1, y=0.12)


def _name_published(axes: Axes, points: pd.DataFrame, cost: str) -> None:
    """Label the published points, when everything else has its position."""
    points = points.dropna(subset=[cost])
    label_points(axes, points[cost], points.error_percent, [_short(name) for name in points.model])


def _short(model: str) -> str:
    """Return a model's name without its family (in the legend): 74 g4 for condensenet-74-imagenet-g4."""
    name = model.removesuffix("-pruned").replace("-imagenet", "")
    if model.endswith("-pruned"):
        return name
    family = next((family for family in FAMILIES if name.lower().startswith(f"{family.lower()}-")), "")
    return name[len(family) :].lstrip("-").replace("-g", " g")


def _front(axes: Axes, every: pd.DataFrame, cost: str) -> None:
    if len(every):
        front = every.iloc[pareto(every[cost].to_numpy(), every.error_mean.to_numpy())]
        if len(front) < 2:
            return
        axes.plot(front[cost], front.error_mean, ":", color=GREY, lw=1.4, zorder=1, label="Pareto front")


def _curves(axes: Axes, every: pd.DataFrame, cost: str, names: list[str]) -> None:
    names = [name for name in names if (every.curve == name).any()]
    looks = series_looks(names)
    cheaper = sorted(names, key=lambda name: _near_base(every, every[every.curve == name], cost))
    for name in names:
        part = every[every.curve == name]
        shifted = apart(part[cost], every[cost], cheaper.index(name) - (len(names) - 1) / 2)
        _points(axes, part, shifted, label=LABELS.get(name, name), lw=1.6, **looks[name])


def _near_base(every: pd.DataFrame, part: pd.DataFrame, cost: str) -> float:
    """Return which of some costs is nearest to the base's, so that marks keep the order of their costs."""
    base = every.loc[every.role == "base", cost]
    return float(part[cost].iloc[(part[cost] - base.iloc[0]).abs().argmin()]) if len(base) else 0.0


def _rest_of_grid(axes: Axes, every: pd.DataFrame, cost: str) -> None:
    """Draw variants that differ from the base not only in the leading axis: open marks."""
    rest = every[every.curve.isna()]
    known = list(dict.fromkeys(rest.grouping))
    looks = series_looks(known)
    if len(rest):
        axes.plot([], [], "o", mfc="none", mew=1.4, ms=6, color=TEXT, label="rest of the grid")
    for place, (_, row) in enumerate(rest.sort_values(cost, kind="stable").iterrows()):
        part = pd.DataFrame([row])
        look = looks[row.grouping]
        shifted = apart(part[cost], every[cost], place - (len(rest) - 1) / 2)
        _points(axes, part, shifted, lw=0, mfc="none", alpha=0.6, elinewidth=0.7, capsize=0, **look)


def _ends(part: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of the error axis with room for all marks and their intervals; (0, 0) without marks."""
    if part.empty:
        return 0, 0
    below, above = interval_arms(part)
    low, high = float((part.error_mean - below).min()), float((part.error_mean + above).max())
    room = 0.06 * (high - low)
    return (0, 1.06 * high) if begins_at_zero(low, high) else (low - room, high + room)


def _points(axes: Axes, part: pd.DataFrame, x: pd.Series, **look: Any) -> None:
    look = {"markersize": 5.5, "elinewidth": 1, "capsize": 2.5} | look
    axes.errorbar(x, part.error_mean, interval_arms(part), **look)


@says_if_nothing(NO_FINISHED, "error_mean")
def equal_cost(summary: pd.DataFrame) -> Figure:
    """Draw the grid's test errors with 95 % intervals: a row per cell, a mark per level of the first axis."""
    if not (summary.role.isin(["base", "grid"]) & (summary.n > 0)).any():
        return nothing(NO_FINISHED)
    with style():
        grid = summary[summary.role.isin(["base", "grid"]) & (summary.n > 0)]
        lead, *others = _grid_axes(grid)
        rows = pd.Series([tuple(row[name] for name in others) for _, row in grid.iterrows()], grid.index)
        cells, levels = list(dict.fromkeys(rows)), list(dict.fromkeys(grid[lead].map(str)))
        looks = series_looks(levels)
        figure = Figure(figsize=(WIDTH, 1.8 + max(0.36, 0.2 * len(levels)) * max(2, len(cells))))
        axes = figure.subplots()
        for place, level in enumerate(levels):
            part = grid[grid[lead].map(str) == level]
            places = np.array([cells.index(cell) for cell in rows[part.index]])
            places = places + 0.5 * (place - (len(levels) - 1) / 2) / len(levels)
            look: Any = {"ls": "none", "markersize": 5.5, "elinewidth": 1.2, "capsize": 2.5} | looks[level]
            label = LABELS.get(level, level)
            axes.errorbar(part.error_mean, places, xerr=interval_arms(part), label=label, **look)
        axes.set_yticks(range(len(cells)), [_cell_name(others, cell) for cell in cells])
        axes.set_ylim(len(cells) - 0.5, -0.5)
        low, high = _ends(grid)
        axes.set_xlim(low, high or None)
        axes.set_xlabel("Test error (%)")
        legend_below(figure, axes, title=TITLES.get(lead, "Grouping" if lead == "grouping" else None))
        sns.despine(figure, left=True)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=GREY, alpha=0.25)
    return figure


def _grid_axes(grid: pd.DataFrame) -> list[str]:
    """Return the axes that vary, the one that the figure compares first; for a path its steps alone."""
    if "path" in grid and bool(grid.path.any()):
        return ["curve"]
    grouped = grid[grid.grouping != "none"]  # a dense variant has no groups
    factors = [name for name in TITLES if name in grid and grouped[name].nunique() > 1]
    return ["grouping", *factors] if grid.grouping.nunique() > 1 or not factors else factors


def _cell_name(factors: list[str], levels: tuple[Any, ...]) -> str:
    named = zip(factors, levels, strict=True)
    names = [f"{level} growth" if factor == "growth" else str(level) for factor, level in named]
    return "\n".join(names) if len(factors) == 2 and "growth" in factors else ", ".join(names)
