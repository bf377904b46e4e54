"""What it costs to prune each layer alone, and what of a pruning step is stale statistics."""

from __future__ import annotations

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from analysis.frames import rises

from .nothing import says_if_nothing
from .style import COLOURS, GREY, WIDTH, legend_below, one_run, stacked, style

PALETTE = "viridis"  # from the first layer to the last


@says_if_nothing("Nothing to draw: no layer was pruned.", "error_percent")
def sensitivity(found: pd.DataFrame) -> Figure:
    """Draw the error of a network with one layer pruned, against the share of inputs that the layer loses.

    `found` is `layer_sensitivity` of one run. Above: the batch norms' statistics as they were; below:
    taken anew on training images. The difference is not what the connections were worth.
    """
    one_run(found)
    with style():
        figure, (as_they_were, anew) = stacked((3, 3), sharex=True, sharey=True)
        colours = dict(
            zip(found.target.unique(), sns.color_palette(PALETTE, found.target.nunique()), strict=True)
        )
        for axes, column, title in (
            (as_they_were, "error_percent", "Statistics as they were"),
            (anew, "error_percent_anew", "Statistics taken anew"),
        ):
            _lines(axes, found, column, colours)
            axes.set_title(title, fontsize="medium", loc="left")
            axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        anew.set_xlabel("Share of the layer's inputs that are pruned")
        figure.supylabel("Error (%)", fontsize="medium")
        lines = [Line2D([], [], color=colour, label=target) for target, colour in colours.items()]
        legend_below(figure, handles=lines, title="Layer")
        sns.despine(figure)
    return figure


def _lines(axes: Axes, found: pd.DataFrame, column: str, colours: dict[str, Any]) -> None:
    axes.axhline(found[column].iloc[0], color=GREY, lw=0.9, ls=":", zorder=0)
    for target, own in found.sort_values("share").groupby("target", sort=False):
        axes.plot(own.share, own[column], color=colours[target], lw=1.5)


@says_if_nothing("No pruning step yet.", "error_before")
def stale_statistics(steps: pd.DataFrame) -> Figure:
    """Draw by how much the error rises right at each pruning step, with both kinds of the norms' statistics.

    `steps` is `statistics_at_steps` of one run. What statistics taken anew leave is what the connections were
    worth at that moment.
    """
    one_run(steps)
    with style():
        figure = Figure(figsize=(WIDTH, 3.2))
        axes = figure.subplots()
        looks = zip(rises(steps).items(), (GREY, COLOURS[0]), "os", strict=True)
        for (label, rise), colour, marker in looks:
            axes.plot(steps.stage, rise, color=colour, marker=marker, lw=1.6, ms=6, label=label)
        axes.axhline(0, color=GREY, lw=0.9, ls=":", zorder=0)
        axes.set_xlabel("Pruning step into stage")
        axes.set_ylabel("Rise of the error (points)")
        axes.margins(x=0.1)
        legend_below(figure, axes, title="Statistics of the norms")
        sns.despine(figure)
    return figure
