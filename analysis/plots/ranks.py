"""Where the inputs of a group stood over the epochs, and where they were pruned."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from .nothing import says_if_nothing
from .style import COLOURS, DASHES, GREY, WIDTH, legend_below, one_run, style

ONE_GROUP = ("target", "group")


@says_if_nothing("No ranks: the run learns no groups, or no stage has started.", "rank")
def ranks(ranks: pd.DataFrame) -> Figure:
    """Draw the rank of each input of one group by epoch, as a line that ends where the input is pruned.

    `ranks` is `frames.ranks` of one run, target and group. Dashed: how many inputs the group still reads.
    """
    one_run(ranks)
    for name in ONE_GROUP:
        if ranks[name].nunique() > 1:
            raise ValueError(
                f"{name}: the frame has {ranks[name].nunique()}, but this figure shows one; choose it"
            )
    end = ranks.epoch.max()
    with style():
        figure = Figure(figsize=(WIDTH, 4.6))
        axes = figure.subplots()
        seen = set()
        for _, line in sorted(ranks.groupby("channel"), key=lambda part: part[1].epoch.max()):
            lives = line.epoch.max() == end
            label = None if lives in seen else ("alive to the end" if lives else "pruned at its end")
            look = {"color": COLOURS[0], "lw": 1.3} if lives else {"color": GREY, "lw": 0.7, "alpha": 0.75}
            seen.add(lives)
            axes.plot(line.epoch, line["rank"], label=label, **look)
            if not lives:
                axes.plot(line.epoch.iloc[-1], line["rank"].iloc[-1], "x", color=COLOURS[3], ms=3, mew=0.9)
        count = ranks.groupby("epoch").channel.nunique()
        axes.step(
            count.index, count, where="pre", color=GREY, ls=DASHES[1], lw=1.4, label="inputs of the group"
        )
        axes.set(xlabel="Epoch", ylabel="Rank among the group's inputs", ylim=(count.max() + 1, 0))
        axes.set_title(
            f"layer {ranks.target.iloc[0]}, group {ranks.group.iloc[0]}", fontsize="medium", loc="left"
        )
        legend_below(figure, axes)
        sns.despine(figure)
    return figure
