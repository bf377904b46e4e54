"""An uneven budget: the condense factor and the cost of each layer, beside the uniform network's."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from .nothing import says_if_nothing
from .style import COLOURS, COUNTS, GREY, legend_below, name_layers, stacked, style


@says_if_nothing("Nothing to draw: no network has 1×1 layers.", "condense_factor")
def budget(factors: pd.DataFrame) -> Figure:
    """Draw the condense factors and the final MACs of two runs by layer.

    `factors` is `frames.factors` of a uniform run and then an uneven one. Grey: the uniform network.
    """
    rows = factors.sort_values("target_position", kind="stable")
    runs = list(factors.run.unique())
    with style():
        figure, (above, below) = stacked((2.4, 2.4), sharex=True)
        for axes, column in ((above, "condense_factor"), (below, "macs")):
            for run, colour, width, label in zip(
                runs, (GREY, COLOURS[0]), (0.8, 0.45), ("uniform", "uneven"), strict=False
            ):
                own = rows[rows.run == run]
                alpha = 0.35 if colour == GREY else 1
                axes.bar(own.target_position, own[column], width, color=colour, alpha=alpha, lw=0, label=label)
        name_layers(below, list(rows[rows.run == runs[0]].target))
        below.set_xlabel("Layer")
        below.set_ylabel("MACs")
        below.yaxis.set_major_formatter(COUNTS)
        above.set_ylabel("Condense factor C")
        legend_below(figure, above)
        sns.despine(figure)
    return figure
