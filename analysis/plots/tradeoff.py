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

from .style import (
    GREY,
    LABELS,
    LOG_RANGE,
    NARROW,
    TITLES,
    cost_axis,
    interval_arms,
    label_points,
    legend_beside,
    series_looks,
    style,
)

COSTS = {
    "macs": "MACs of the final network",
    "flops_paper": "FLOPs of the final network (as the paper counts)",
    "params": "Parameters",
}
PUBLISHED_COST = {"flops_paper": "flops", "macs": "flops", "params": "params"}
NUDGE = 0.02  # of the axis: equal costs would hide one another


def tradeoff(
    summary: pd.DataFrame, cost: str = "macs", published: pd.DataFrame | None = None, beside: bool = False
) -> Figure:
    """Test error against `cost` (macs, flops_paper or params), every variant with its 95 % interval.

    A curve a level of the leading axis, all else as in the base; open marks: the rest of the grid; dotted: the
    Pareto front. `published` (`frames.published`) adds a paper's points, on the same axes or `beside` them.
    """
    if cost not in COSTS:
        raise ValueError(f"cost {cost!r}: must be one of {', '.join(COSTS)}")
    with style():
        panels = 2 if beside and published is not None else 1
        figure = Figure(figsize=(6.4, 4) if panels == 1 else (10.5, 4))
        ours, *others = figure.subplots(1, panels, squeeze=False)[0]
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
        ours.set_ylim(0, max(_top(every) or 0, ours.get_ylim()[1] if shared else 0) or None)
        if others:
            ours.set_title("this study", fontsize="medium")
            figure.legend(
                *ours.get_legend_handles_labels(), loc="outside lower left", ncols=4, fontsize="small"
            )
            _published_panel(others[0], published, PUBLISHED_COST[cost])
        else:
            legend_beside(ours)
        sns.despine(figure)
        if published is not None:
            _name_published(others[0] if others else ours, published, PUBLISHED_COST[cost])
    return figure


def published(points: pd.DataFrame, cost: str = "flops") -> Figure:
    """What papers print: test error against `cost` (flops or params) of `frames.published`, one data set."""
    with style():
        figure = Figure(figsize=(6.4, 4))
        axes = figure.subplots()
        _published_panel(axes, points, cost)
        sns.despine(figure)
        _name_published(axes, points, cost)
    return figure


def _published_panel(axes: Axes, points: pd.DataFrame, cost: str) -> None:
    _published(axes, points, cost)
    label = {"flops": "FLOPs as printed", "params": "Parameters as printed"}[cost]
    cost_axis(axes, label, points[cost].dropna())
    axes.set_ylabel("Test error (%)")
    axes.set_title(f"published, {points.data.iloc[0]}" if len(points) else "published", fontsize="medium")
    legend_beside(axes, fontsize="small")


def _published(axes: Axes, points: pd.DataFrame, cost: str) -> None:
    """Points of papers, open and grey-edged, so that none is taken for a measurement of ours."""
    palette = sns.color_palette("colorblind", 10)
    colours = [palette[3], palette[4], palette[5], palette[9], GREY, GREY]
    looks = dict(zip(FAMILIES, zip(colours, "oshX*P", strict=True), strict=True))
    named = {"pruned": "others, pruned", "other": "others"}
    points = points.dropna(subset=[cost])
    for name in [family for family in FAMILIES if (points.family == family).any()]:
        part, (colour, marker) = points[points.family == name], looks[name]
        axes.plot(
            part[cost],
            part.error_percent,
            marker,
            mfc="none",
            mec=colour,
            mew=1.4,
            ms=6,
            label=f"{named.get(name, name)} (published)",
        )
    axes.margins(x=0.1, y=0.12)


def _name_published(axes: Axes, points: pd.DataFrame, cost: str) -> None:
    """Labels, once all else has its place."""
    points = points.dropna(subset=[cost])
    label_points(axes, points[cost], points.error_percent, [_short(name) for name in points.model])


def _short(model: str) -> str:
    """A model's name without the family that the legend tells: condensenet-74-imagenet-g4 is 74 g4."""
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
    for place, name in enumerate(names):
        part = every[every.curve == name]
        shifted = _apart(part[cost], every[cost], place - (len(names) - 1) / 2)
        _points(axes, part, shifted, label=LABELS.get(name, name), lw=1.6, **looks[name])


def _rest_of_grid(axes: Axes, every: pd.DataFrame, cost: str) -> None:
    """What differs from the base in more than the leading axis, or in another one: open marks."""
    rest = every[every.curve.isna()]
    known = list(dict.fromkeys(rest.grouping))
    looks = series_looks(known)
    if len(rest):
        axes.plot([], [], "o", mfc="none", color=GREY, label="rest of the grid")
    for place, (_, row) in enumerate(rest.iterrows()):
        part = pd.DataFrame([row])
        look = looks[row.grouping]
        shifted = _apart(part[cost], every[cost], place - (len(rest) - 1) / 2)
        _points(axes, part, shifted, lw=0, mfc="none", alpha=0.6, **look)


def _top(part: pd.DataFrame) -> float | None:
    """An end of the error's axis that leaves room for the largest mark and its interval."""
    return 1.06 * float((part.error_mean + interval_arms(part)[1]).max()) or None if len(part) else None


def _apart(costs: pd.Series, every: pd.Series, places: float) -> pd.Series:
    """Costs moved by a hair's breadth on the axis that `cost_axis` gives them."""
    if every.max() > LOG_RANGE * every.min():
        return costs * (every.max() / every.min()) ** (NUDGE * places)
    span = every.max() - every.min() if every.max() > NARROW * every.min() else 2 * every.max()
    return costs + NUDGE * places * span


def _points(axes: Axes, part: pd.DataFrame, x: pd.Series, **look: Any) -> None:
    axes.errorbar(x, part.error_mean, interval_arms(part), markersize=5.5, elinewidth=1, capsize=2.5, **look)


def equal_cost(summary: pd.DataFrame) -> Figure:
    """Test error of the grid, mean and 95 % interval: a row a cell, a mark a level of the leading axis."""
    with style():
        grid = summary[summary.role.isin(["base", "grid"]) & (summary.n > 0)]
        learned = grid[grid.grouping != "none"]  # a dense one has no groups to differ in
        factors = [name for name in TITLES if name in grid and learned[name].nunique() > 1]
        factors = ["grouping"] * (grid.grouping.nunique() > 1) + factors
        path = "path" in grid and bool(grid.path.any())
        lead, others = ("curve", []) if path else (next(iter(factors), "grouping"), factors[1:])
        rows = pd.Series([tuple(row[name] for name in others) for _, row in grid.iterrows()], grid.index)
        cells, levels = list(dict.fromkeys(rows)), list(dict.fromkeys(grid[lead].map(str)))
        looks = series_looks(levels)
        figure = Figure(figsize=(6.4, 1.3 + max(0.36, 0.2 * len(levels)) * max(2, len(cells))))
        axes = figure.subplots()
        for place, level in enumerate(levels):
            part = grid[grid[lead].map(str) == level]
            places = np.array([cells.index(cell) for cell in rows[part.index]])
            axes.errorbar(
                part.error_mean,
                places + 0.5 * (place - (len(levels) - 1) / 2) / len(levels),
                xerr=interval_arms(part),
                ls="none",
                markersize=5.5,
                elinewidth=1.2,
                capsize=2.5,
                label=LABELS.get(level, level),
                **looks[level],
            )
        axes.set_yticks(range(len(cells)), [_cell_name(others, cell) for cell in cells])
        axes.set_ylim(len(cells) - 0.5, -0.5)
        axes.set_xlim(0, _top(grid))
        axes.set_xlabel("Test error (%)")
        title = None if path else "Grouping" if lead == "grouping" else TITLES[lead]
        legend_beside(axes, title=title)
        sns.despine(figure, left=True)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=GREY, alpha=0.25)
    return figure


def _cell_name(factors: list[str], levels: tuple[Any, ...]) -> str:
    named = zip(factors, levels, strict=True)
    names = [f"{level} growth" if factor == "growth" else str(level) for factor, level in named]
    return "\n".join(names) if len(factors) == 2 and "growth" in factors else ", ".join(names)
