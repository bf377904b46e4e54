"""What it costs to prune each layer alone."""

from __future__ import annotations

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from .nothing import says_if_nothing
from .style import GREY, legend_below, one_run, stacked, style

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
        axes.plot(own.share, own[column], color=colours[target], lw=1.5, marker="o", ms=2.5)
