"""The connections that survive: maps of the whole network, one layer in full, and shares by distance."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy import stats

from analysis.stats import CONFIDENCE

from .nothing import check_columns, nothing, says_if_nothing
from .style import (
    FAINT,
    TITLES,
    WIDTH,
    heat,
    legend_below,
    legend_beside,
    one_run,
    series_looks,
    stacked,
    stage_title,
    style,
    thinned,
)

MOST_NAMES, MOST_LETTERS = 24, 100  # of names that lie side by side above a layer
VALUES = {"alive": "Share of connections alive", "mean_weight": "Mean |W|"}


@says_if_nothing("No connections: no 1×1 convolution has a mask, or no stage has started.", "alive")
def pruned_connections(connections: pd.DataFrame, value: str = "alive") -> Figure:
    """Draw how much each layer reads of each earlier one, by stage of one run (the paper's map of weights).

    `connections` is `frames.connections` of one run; `value`: 'alive', the share of connections that survive,
    or 'mean_weight'. Lines separate the blocks; grey cells have no connections.
    """
    one_run(connections)
    if value not in VALUES:
        raise ValueError(f"value {value!r}: must be one of {', '.join(VALUES)}")
    stages = list(dict.fromkeys(connections.stage))
    ordered = connections.sort_values("target_position", kind="stable")
    targets, sources = list(dict.fromkeys(ordered.target)), _sources(ordered)
    columns = min(len(stages), 2)
    rows = -(-len(stages) // columns)
    with style():
        figure = Figure(figsize=(WIDTH, 1 + rows * (0.95 * WIDTH / columns)))
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        high = 1.0 if value == "alive" else float(connections[value].max())
        for axes, stage in zip(panels, stages, strict=False):
            part = connections[connections.stage == stage]
            table = part.pivot_table(index="source", columns="target", values=value, sort=False)
            table = table.reindex(index=sources, columns=targets)
            image = axes.imshow(table, vmin=0, vmax=high or 1.0, cmap=heat(), aspect="auto")
            axes.set_title(stage_title(stage), fontsize="medium")
            _block_lines(axes, sources, targets)
            axes.set_xticks(*thinned(targets), rotation=90, fontsize="x-small")
            axes.set_yticks(*thinned(sources), fontsize="x-small")
            axes.tick_params(left=False, bottom=False, pad=1)
        for axes in panels[len(stages) :]:
            axes.set_visible(False)
        figure.supxlabel("Target layer", fontsize="medium")
        figure.supylabel("Source layer", fontsize="medium")
        place: Any = {"location": "bottom", "shrink": 0.8, "aspect": 40}
        figure.colorbar(image, ax=list(panels), label=VALUES[value], **place)
    return figure


def _sources(ordered: pd.DataFrame) -> list[str]:
    """Return the source layers in the order of the network: each before the first target that reads it."""
    found: dict[str, None] = {}
    for _, part in ordered.groupby("target_position"):
        found |= dict.fromkeys(part.sort_values("source_position", kind="stable").source)
    return list(found)


def _block_of(label: str) -> str:
    """Return the block of a layer or of the transition after it: 1 for '1.3' and for 't1'."""
    return label.removeprefix("t").partition(".")[0]


def _block_lines(axes: Axes, sources: list[str], targets: list[str]) -> None:
    for names, line in ((targets, axes.axvline), (sources, axes.axhline)):
        for place in range(1, len(names)):
            if names[place - 1] != "stem" and _block_of(names[place]) != _block_of(names[place - 1]):
                line(place - 0.5, color="white", lw=1.2)


@says_if_nothing("No connections: the layer has no mask, or no stage has started.", "died")
def layer_connections(channels: pd.DataFrame) -> Figure:
    """Draw one layer in full: groups × input channels, by source layer and by the stage in which each died.

    `channels` is `frames.channels` of one run and one target. Above: connections that are alive, in the colour
    of their source; below: every connection by the stage at whose start it was pruned.
    """
    one_run(channels)
    ordered = channels.sort_values(["group", "channel"])
    died = ordered.pivot_table(index="group", columns="channel", values="died").astype(int)
    names = ordered.drop_duplicates("channel").source.tolist()
    sources = list(dict.fromkeys(names))
    place = np.array([sources.index(name) for name in names])
    with style():
        height = float(np.clip(0.22 * len(died), 0.9, 4))
        longest = max(map(len, sources)) if _stand(thinned(sources, MOST_NAMES)[1]) else 0
        size = float(np.clip(0.035 * len(names) + 1, WIDTH, 9)), 2 * height + 2 + 0.07 * max(0, longest - 6)
        figure = Figure(figsize=size)
        above, below = figure.subplots(2, 1, sharex=True, sharey=True)
        shown = np.where(died.to_numpy() == -1, place[None, :] + 1, 0)
        colours = [FAINT, *sns.color_palette("viridis", len(sources))]  # later sources are lighter
        _cells(above, shown, colours)
        above.set_title(f"layer {channels.target.iloc[0]}: what each group still reads", fontsize="medium")
        legend_below(figure, handles=_draw_fates(below, died.to_numpy()))
        _source_names(above, below, names, sources)
        for axes in (above, below):
            axes.set_ylabel("Group")
            axes.set_yticks(*thinned([str(group) for group in died.index], 8))
        below.set_xlabel("Input channel")
    return figure


def _cells(axes: Axes, numbers: np.ndarray, colours: list[Any]) -> None:
    """Draw a cell per number, in the colour of that index."""
    limits: Any = {"vmin": -0.5, "vmax": len(colours) - 0.5}
    axes.imshow(numbers, cmap=ListedColormap(colours), aspect="auto", interpolation="none", **limits)


def _draw_fates(axes: Axes, died: np.ndarray) -> list[Patch]:
    """Draw the stage in which each connection died, and return what the legend shows."""
    fates = [*sorted(set(died.ravel()) - {-1}), -1]
    shades = [*sns.color_palette("cividis", len(fates))[:-1], "#f2f2f2"]
    _cells(axes, np.vectorize(fates.index)(died), shades)
    axes.set_title("when each connection was pruned", fontsize="medium")
    return [
        Patch(fc=shade, ec="0.5", lw=0.5, label=_fate(stage))
        for shade, stage in zip(shades, fates, strict=True)
    ]


def _fate(stage: int) -> str:
    return {-1: "alive", 0: "never existed"}.get(int(stage), f"died at stage {stage}")


def _stand(labels: list[str]) -> bool:
    """Return whether there is too little room for names side by side, so that they stand upright."""
    return len(labels) > 8 or sum(map(len, labels)) > MOST_LETTERS


def _source_names(above: Axes, below: Axes, names: list[str], sources: list[str]) -> None:
    """Draw lines between source layers, and as many of their names as there is room for."""
    starts = [names.index(source) for source in sources] + [len(names)]
    for axes in (above, below):
        for start in starts[1:-1]:
            axes.axvline(start - 0.5, color="white", lw=1)
    top = above.secondary_xaxis("top")
    middles = [(first + last - 1) / 2 for first, last in itertools.pairwise(starts)]
    places, labels = thinned(sources, MOST_NAMES)
    upright = _stand(labels)
    top.set_xticks([middles[place] for place in places], labels, fontsize="x-small", rotation=90 * upright)
    top.tick_params(length=0, pad=1)
    above.set_title(above.get_title(), fontsize="medium", pad=6 + 5 * max(map(len, labels)) if upright else 16)


@says_if_nothing("No connections: no run has ended with masks.", "alive")
def sources_read(connections: pd.DataFrame, factors: tuple[str, ...] = ("growth", "connectivity")) -> Figure:
    """Draw the share of connections alive at the end of training by the distance from source to target.

    `connections` is `frames.connections` of several runs, merged with their columns of `factors`. One panel per
    factor, one line per level, with the other factors as in the first run: mean over runs, 95 % interval.
    """
    check_columns(connections, *factors)
    end = connections[connections.stage == "end"]
    if end.empty:
        return nothing("No connections: no run has ended with masks.")
    with style():
        figure, panels = stacked([2.7] * len(factors), sharex=True, sharey=True)
        for axes, factor in zip(panels, factors, strict=True):
            held = end
            for other in set(factors) - {factor}:
                held = held[held[other] == end[other].iloc[0]]
            levels = [str(level) for level in dict.fromkeys(held[factor])]
            for level, look in series_looks(levels).items():
                shares = shares_by_distance(held[held[factor].map(str) == level])
                axes.plot(shares.distance, shares.share, label=level, ms=4, lw=1.6, **look)
                axes.fill_between(
                    shares.distance, shares.low, shares.high, color=look["color"], alpha=0.15, lw=0
                )
            axes.set_ylim(0, None)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            legend_beside(axes, title=TITLES.get(factor, factor.capitalize()), fontsize="small")
        panels[-1].set_xlabel("Distance from source to target (layers)")
        figure.supylabel("Share of connections alive", fontsize="medium")
        sns.despine(figure)
    return figure


def shares_by_distance(connections: pd.DataFrame) -> pd.DataFrame:
    """Return the share of connections alive by distance: mean over runs with its 95 % interval."""
    alive = connections.assign(count=connections.alive * connections.connections)
    sums = alive.groupby(["run", "distance"])[["count", "connections"]].sum()
    groups = (sums["count"] / sums.connections).groupby("distance")
    mean, sd, n = groups.mean(), groups.std().fillna(0), groups.count()
    half = stats.t.ppf((1 + CONFIDENCE) / 2, np.maximum(n - 1, 1)) * sd / np.sqrt(n)
    frame = {
        "distance": mean.index,
        "share": mean,
        "low": (mean - half).clip(0),
        "high": (mean + half).clip(upper=1),
    }
    return pd.DataFrame(frame | {"runs": n}).reset_index(drop=True)
