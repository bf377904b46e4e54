"""Regret: how much of what a stage dropped would have been kept later, and what dropping it cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analysis.stats import regret_costs, regrets

from .nothing import says_if_nothing
from .style import COLOURS, GREY, name_layers, stacked, style

MOMENTS = {"next": "at the next stage", "end": "at the end"}


@says_if_nothing("Nothing to regret: a fork that skips its pruning is needed, and its parent.", "dropped")
def regret(counts: pd.DataFrame) -> Figure:
    """Draw the share of the dropped connections that would be kept later, by stage and layer, and the cost.

    `counts` is `frames.regret`. Grey ticks: after random dropping. Bars and bands: 95 % interval over seeds.
    """
    with style():
        figure, (by_stage, by_layer, costs) = stacked((2.8, 3, 2.8))
        stages = sorted(counts.stage.unique(), key=int)
        _draw_stages(by_stage, regrets(counts), stages)
        _draw_layers(by_layer, counts, stages)
        _draw_costs(costs, regret_costs(counts), stages)
        for axes in (by_stage, by_layer):
            axes.yaxis.set_major_formatter(PercentFormatter(1))
            axes.set_ylim(bottom=0)
        for axes in (by_stage, costs):
            axes.set_xticks(range(len(stages)), stages)
            axes.set_xlabel("Stage that was skipped")
    return figure


def _draw_stages(axes: Axes, shares: pd.DataFrame, stages: list[str]) -> None:
    for place, (moment, label) in enumerate(MOMENTS.items()):
        part = shares[shares.moment == moment]
        x = _places(part.stage, stages) + 0.3 * place - 0.15
        arms = np.nan_to_num([part.share - part.share_low, part.share_high - part.share])
        axes.errorbar(x, part.share, arms, fmt="os"[place], color=COLOURS[place], ms=5, capsize=2, label=label)
        axes.plot(x, part.chance, "_", color=GREY, ms=14, mew=2, label="" if place else "dropped at random")
    axes.set_ylabel("Dropped, but kept later")
    axes.legend(fontsize="small")


def _draw_layers(axes: Axes, counts: pd.DataFrame, stages: list[str]) -> None:
    end = counts[counts.moment == "end"].sort_values("target_position", kind="stable")
    layers = list(dict.fromkeys(end.target))
    shares = regrets(end, "target")
    for stage, colour in zip(stages, COLOURS[2:], strict=False):
        part = shares[shares.stage == stage]
        x = _places(part.target, layers)
        axes.plot(x, part.share, "-o", ms=3.5, lw=1.4, color=colour, label=f"stage {stage}")
        axes.fill_between(x, part.share_low, part.share_high, color=colour, alpha=0.15, lw=0)
    name_layers(axes, layers)
    axes.set_xlabel("Layer, at the end")
    axes.legend(fontsize="small")


def _draw_costs(axes: Axes, costs: pd.DataFrame, stages: list[str]) -> None:
    looks = {"cost": (COLOURS[0], "o", "by scores"), "random_cost": (GREY, "D", "at random")}
    for place, (name, (colour, marker, label)) in enumerate(looks.items()):
        part = costs[costs[name].notna()]
        x = _places(part.stage, stages) + 0.3 * place - 0.15
        arms = np.nan_to_num([part[name] - part[f"{name}_low"], part[f"{name}_high"] - part[name]])
        axes.errorbar(x, part[name], arms, fmt=marker, color=colour, ms=5, capsize=2, label=label)
    axes.axhline(0, color=GREY, lw=0.8, ls=":", zorder=0)
    axes.set_ylabel("Cost in test error, points")
    axes.legend(fontsize="small")


def _places(names: pd.Series, order: list[str]) -> np.ndarray:
    """Return where names stand in an order; there may be none."""
    return np.array([order.index(name) for name in names], float)
