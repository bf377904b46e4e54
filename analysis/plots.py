"""Figures: each takes a tidy frame and returns a matplotlib Figure; none reads a file.

Colours are seaborn's colour-blind palette; maps are perceptually even.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy import stats

from condense_core.config import GROUPINGS

from .stats import CONFIDENCE, pareto

COLOURS = sns.color_palette("colorblind", 5)
PALETTE: dict[str, Any] = dict(zip(GROUPINGS, [*COLOURS[:3], COLOURS[4], "0.3"], strict=True))
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), "-.", (2, (2, 5)), ":")
MARKERS: dict[str, str] = dict(zip(GROUPINGS, "osDv^", strict=True))
LABELS = {"none": "none (dense)"}
TITLES = {
    "growth": "Growth",
    "connectivity": "Connectivity",
    "groups": "Groups",
    "condense_factor": "Condense factor",
    "group_lasso": "Group lasso",
    "pruning": "Pruning",
    "criterion": "Criterion",
}
NO_CONNECTION = "#d9d9d9"


@contextmanager
def style() -> Iterator[None]:
    """Seaborn's look for the figures drawn inside, and nowhere else."""
    with sns.axes_style("ticks"), sns.plotting_context("paper", font_scale=1.1), mpl.rc_context(_SETTINGS):
        yield


_SETTINGS: Any = {"svg.hashsalt": "condense", "figure.constrained_layout.use": True, "legend.frameon": False}


def count(value: float) -> str:
    """A number of operations, short: 76.6 k, 1.2 M."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g}"


def interval_arms(part: pd.DataFrame) -> np.ndarray:
    """Arms of each mean error's 95 % t interval, within 0 to 100 %; 0 for a single run: (2, n)."""
    n, mean = part.n.to_numpy(float), part.error_mean.to_numpy(float)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, np.maximum(n - 1, 1))
    half = np.where(n > 1, quantile * part.error_sd.fillna(0) / np.sqrt(np.maximum(n, 1)), 0)
    return np.vstack([np.minimum(half, mean), np.minimum(half, 100 - mean)])


def tradeoff(summary: pd.DataFrame, cost: str = "macs") -> Figure:
    """Test error against `cost` (macs or params): a curve a level of the leading axis, with 95 % intervals.

    All else is as in the base: `equal_cost` shows the rest of the grid. Dotted: the Pareto front.
    """
    with style():
        figure = Figure(figsize=(6.4, 4))
        axes = figure.subplots()
        curves = summary[summary.curve.notna() & (summary.n > 0)].sort_values(cost, kind="stable")
        if len(curves):
            front = curves.iloc[pareto(curves[cost].to_numpy(), curves.error_mean.to_numpy())]
            axes.plot(front[cost], front.error_mean, ":", color="0.35", lw=1.4, zorder=1, label="Pareto front")
        names = [name for name in dict.fromkeys(summary.curve.dropna()) if (curves.curve == name).any()]
        looks = series_looks(names)
        for place, name in enumerate(names):
            part = curves[curves.curve == name]
            shift = 1 + 0.02 * (place - (len(names) - 1) / 2)  # equal costs would hide one another
            axes.errorbar(
                part[cost] * shift,
                part.error_mean,
                interval_arms(part),
                markersize=5.5,
                lw=1.6,
                elinewidth=1,
                capsize=2.5,
                label=LABELS.get(name, name),
                **looks[name],
            )
        _cost_axis(axes, {"macs": "MACs of the final network", "params": "Parameters"}[cost], curves[cost])
        axes.set_ylabel("Test error (%)")
        axes.set_ylim(bottom=0)
        axes.legend(title=_legend_title(names), loc="upper left", bbox_to_anchor=(1.01, 1))
        sns.despine(figure)
    return figure


def series_looks(names: list[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each series: groupings always look the same, others take them in turn."""
    if set(names) <= set(GROUPINGS):
        return {name: {"color": PALETTE[name], "marker": MARKERS[name]} for name in names}
    colours = sns.color_palette("colorblind", len(names)) if len(names) <= 10 else sns.husl_palette(len(names))
    return {
        name: {"color": colour, "marker": "osDv^P*X<>"[place % 10]}
        for place, (name, colour) in enumerate(zip(names, colours, strict=True))
    }


def _legend_title(names: list[str]) -> str | None:
    return "Grouping" if set(names) <= set(GROUPINGS) else None


def _cost_axis(axes: Axes, label: str, values: pd.Series) -> None:
    axes.set_xlabel(label)
    if len(values) and values.max() > 3 * values.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif len(values) and values.max() < 1.2 * values.min():  # a narrow axis would make much of equal costs
        axes.set_xlim(0, 2 * values.max())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))


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
        axes.set_xlim(left=0)
        axes.set_xlabel("Test error (%)")
        title = None if path else "Grouping" if lead == "grouping" else TITLES[lead]
        axes.legend(title=title, loc="upper left", bbox_to_anchor=(1.01, 1))
        sns.despine(figure, left=True)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="0.9")
    return figure


def _cell_name(factors: list[str], levels: tuple[Any, ...]) -> str:
    named = zip(factors, levels, strict=True)
    names = [f"{level} growth" if factor == "growth" else str(level) for factor, level in named]
    return "\n".join(names) if len(factors) == 2 and "growth" in factors else ", ".join(names)


def pruned_connections(connections: pd.DataFrame, value: str = "alive") -> Figure:
    """What each layer reads of each earlier one at every stage of one run (paper Figure 9).

    `value`: 'alive', the share of connections that survive, or 'mean_weight'. Lines part the blocks.
    """
    label = {"alive": "Share of connections alive", "mean_weight": "Mean |W|"}[value]
    stages = list(dict.fromkeys(connections.stage))
    targets = _in_order(connections, "target")
    sources = ["stem", *targets]
    columns = min(len(stages), 3)
    rows = -(-len(stages) // columns)
    side = float(np.clip(0.2 * len(targets), 2.3, 5))
    with style():
        figure = Figure(figsize=(columns * side + 1.4, rows * (side + 0.45) + 0.3))
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        high = 1.0 if value == "alive" else float(connections[value].max())
        for axes, stage in zip(panels, stages, strict=False):
            part = connections[connections.stage == stage]
            table = part.pivot_table(index="source", columns="target", values=value, sort=False)
            image = axes.imshow(
                table.reindex(index=sources, columns=targets), vmin=0, vmax=high, cmap=_map(), aspect="auto"
            )
            axes.set_title("at the end" if stage == "end" else f"stage {stage}", fontsize="medium")
            _block_lines(axes, targets)
            _layer_ticks(axes, sources, targets)
        for axes in panels[len(stages) :]:
            axes.set_visible(False)
        figure.supxlabel("Target layer", fontsize="medium")
        figure.supylabel("Source layer", fontsize="medium")
        figure.colorbar(image, ax=list(panels), label=label, shrink=0.8, aspect=30)
    return figure


def _in_order(connections: pd.DataFrame, name: str) -> list[str]:
    return list(connections.sort_values("target_position")[name].drop_duplicates())


def _map() -> Colormap:
    return mpl.colormaps["viridis"].with_extremes(bad=NO_CONNECTION)


def _block_of(label: str) -> str:
    return label.partition(".")[0]


def _block_lines(axes: Axes, targets: list[str]) -> None:
    for place in range(1, len(targets)):
        if _block_of(targets[place]) != _block_of(targets[place - 1]):
            axes.axvline(place - 0.5, color="white", lw=1.2)
            axes.axhline(place + 0.5, color="white", lw=1.2)


def _layer_ticks(axes: Axes, sources: list[str], targets: list[str]) -> None:
    every = max(1, len(targets) // 12)
    axes.set_xticks(range(0, len(targets), every), targets[::every], rotation=90, fontsize="x-small")
    axes.set_yticks(range(0, len(sources), every), sources[::every], fontsize="x-small")
    axes.tick_params(length=2)


def macs_during_training(stages: pd.DataFrame) -> Figure:
    """MACs of the network against epochs, a line a variant: they fall where connections are pruned.

    `stages` is `frames.stages` with the columns `variant` and `grouping`, one run a variant.
    """
    with style():
        figure = Figure(figsize=(6.4, 3.6))
        axes = figure.subplots()
        variants = {str(variant): part for variant, part in stages.groupby("variant", sort=False)}
        looks = series_looks(list(variants))
        one_each = stages.groupby("grouping").variant.nunique().max() == 1
        for place, (variant, part) in enumerate(variants.items()):
            grouping = part.grouping.iloc[0]
            colour = PALETTE[grouping] if one_each else looks[variant]["color"]
            line = DASHES[place % len(DASHES)]  # broken lines show those that lie on them
            axes.step(part.epoch, part.macs, where="post", color=colour, ls=line, lw=2, label=variant)
        axes.set_xlabel("Epoch")
        axes.set_ylabel("MACs of the network")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
        sns.despine(figure)
    return figure
