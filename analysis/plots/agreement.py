"""Which connections other seeds learn too, and how much of the final choice was decided when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from analysis.stats import agreed

from .nothing import says_if_nothing
from .style import COLOURS, DASHES, GREY, legend_below, name_layers, series_looks, stacked, style

UNITS = {"channel": "the same channels", "source": "as many channels of a layer"}


@says_if_nothing("Nothing to compare: two runs with masks that differ in their seed alone are needed.", "kept")
def agreement(counts: pd.DataFrame) -> Figure:
    """Draw how far the connections of different seeds agree beyond chance, by target layer and by distance.

    `counts` is `frames.agreement`. 1: the same connections; 0: as many in common as independent choices have.
    Bands: 95 % interval over seeds.
    """
    with style():
        figure, (by_layer, by_distance) = stacked((3, 2.8), sharey=True)
        ordered = counts.sort_values("target_position", kind="stable")
        layers = list(dict.fromkeys(ordered.target))
        looks = zip(UNITS.items(), (COLOURS[0], COLOURS[1]), "os", strict=True)
        for (unit, label), colour, marker in looks:
            part = ordered[ordered.unit == unit].assign(layer=ordered.target.map(layers.index))
            look: Any = {"color": colour, "marker": marker, "ms": 4, "lw": 1.6}
            _band(by_layer, agreed(part, "layer"), "layer", look | {"label": label})
            _band(by_distance, agreed(part, "distance"), "distance", look)
        for axes in (by_layer, by_distance):
            axes.axhline(0, color=GREY, ls=DASHES[1], lw=1.2, zorder=0)
            axes.axhline(1, color=GREY, lw=0.8, ls=":", zorder=0)
        name_layers(by_layer, layers)
        by_layer.set_xlabel("Target layer")
        figure.supylabel("Agreement of seeds (0: chance, 1: the same)", fontsize="medium")
        by_distance.set_xlabel("Distance from source to target (layers)")
        by_distance.xaxis.set_major_locator(MaxNLocator(integer=True))
        by_layer.set_ylim(np.clip(by_layer.get_ylim()[0], -0.6, -0.1), 1.05)
        legend_below(figure, by_layer, title="What two seeds both keep")
        sns.despine(figure)
    return figure


def _band(axes: Axes, found: pd.DataFrame, x: str, look: dict[str, Any]) -> None:
    found = found.sort_values(x)
    axes.plot(found[x], found.agreement, **look)
    axes.fill_between(found[x], found.low, found.high, color=look["color"], alpha=0.15, lw=0)


@says_if_nothing("Nothing to compare: no run that learns its groups has pruned for the last time.", "kept")
def decided(counts: pd.DataFrame) -> Figure:
    """Draw which share of the final connections a run's scores would have chosen at each moment.

    `counts` is `frames.decided`, with a column `variant` for several lines. Above: over the epochs, with the
    95 % interval over the runs; below: the scores of the weights as drawn, by target layer. Dashed: chance,
    which rises as connections die.
    """
    named = counts if "variant" in counts else counts.assign(variant="final connections that the scores choose")
    with style():
        figure, (over_time, by_layer) = stacked((3, 3), sharey=True)
        start = named[named.epoch == 0].sort_values("target_position", kind="stable")
        layers = start.groupby("target").target_position.mean().sort_values(kind="stable").index.tolist()
        looks = series_looks(list(dict.fromkeys(named.variant)))
        draw_decided(over_time, named, "epoch", looks)
        draw_decided(by_layer, start.assign(layer=start.target.map(layers.index)), "layer", looks)
        name_layers(by_layer, layers)
        over_time.set(xlabel="Epoch", ylim=(0, 1.03))
        figure.supylabel("Share of the final connections", fontsize="medium")
        over_time.yaxis.set_major_formatter(PercentFormatter(1))
        by_layer.set_xlabel("Target layer")
        for axes, title in ((over_time, "scores over time"), (by_layer, "scores of the weights as drawn")):
            axes.set_title(title, fontsize="medium", loc="left")
        legend_below(figure, over_time)
        sns.despine(figure)
    return figure


def draw_decided(axes: Axes, counts: pd.DataFrame, x: str, looks: dict[str, dict[str, Any]]) -> None:
    """Draw the mean share of each variant with its interval, and each different level of chance once."""
    chances: list[list[float]] = []
    for variant in dict.fromkeys(counts.variant):
        found, look = agreed(counts[counts.variant == variant], x).sort_values(x), looks[variant]
        low, high = (found.chance + end * (1 - found.chance) for end in (found.low, found.high))
        axes.plot(found[x], found.share, label=variant, ms=4, lw=1.6, **look)
        axes.fill_between(found[x], low, high.clip(upper=1), color=look["color"], alpha=0.15, lw=0)
        if (chance := found.chance.round(6).tolist()) not in chances:
            label = None if chances else "by chance"
            steps: Any = {"drawstyle": "steps-pre"} if x == "epoch" else {}
            axes.plot(found[x], chance, color=GREY, ls=DASHES[1], lw=1.4, label=label, **steps)
            chances.append(chance)
