"""Is it the mask? The errors of the ways to come to masks, and what their differences say."""

from __future__ import annotations

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.masks import MASK_QUESTIONS

from .effects import effect_name, forest, seed_marks
from .nothing import says_if_nothing
from .style import COLOURS, GREY, TEXT, interval_arms, stacked, style

CHAIN = [name for name, question in MASK_QUESTIONS.items() if question.in_chain]


@says_if_nothing("No comparison: two ways to come to masks with finished runs are needed.", "difference")
def masks(effects: pd.DataFrame, summary: pd.DataFrame, by_seed: pd.DataFrame | None = None) -> Figure:
    """Draw the test error of each variant of the study `masks`, and below the differences that answer it.

    The frames are `stats.effects`, `stats.summary` and, for a mark per seed, `stats.effects_by_seed`. The
    variants of the chain come first and are joined by a line; their three differences add up.
    """
    rows = _in_order(summary[(summary.n > 0) & summary.role.isin(["base", "grid"])])
    with style():
        figure, (above, below) = stacked((0.9 + 0.34 * len(rows), 0.9 + 0.46 * len(effects)))
        _errors(above, rows)
        forest(below, effects, [f"{row.factor}:\n{effect_name(row)}" for _, row in effects.iterrows()])
        if by_seed is not None:
            seed_marks(below, effects, by_seed)
        for label in below.get_yticklabels()[: _chain_length(effects)]:
            label.set_fontweight("bold")
        below.set_title("What each difference says\n(bold: they add up)", fontsize="medium", loc="left")
        below.set_xlabel("Difference (percentage points)")
        sns.despine(figure, left=True)
    return figure


def _in_order(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the variants with those of the chain first, from its top to its bottom."""
    ends = [MASK_QUESTIONS[name] for name in CHAIN]
    chain = [ends[0].level, *(question.against for question in ends)]
    place = summary.curve.map(lambda name: chain.index(name) if name in chain else len(chain))
    return summary.assign(in_chain=place < len(chain)).iloc[place.argsort(kind="stable")]


def _chain_length(effects: pd.DataFrame) -> int:
    return int(effects.factor.isin(CHAIN).sum())


def _errors(axes: Axes, rows: pd.DataFrame) -> None:
    places = pd.Series(range(len(rows)), rows.index)
    chain = rows.in_chain
    axes.plot(rows.error_mean[chain], places[chain], color=COLOURS[0], lw=1, alpha=0.5)
    for part, colour, fill in ((chain, COLOURS[0], COLOURS[0]), (~chain, TEXT, "none")):
        found = rows[part]
        look: Any = {"fmt": "o", "ms": 5.5, "elinewidth": 1.4, "mew": 1.4, "color": colour, "mfc": fill}
        axes.errorbar(found.error_mean, places[part], xerr=interval_arms(found), **look)
    axes.set_yticks(places, list(rows.curve))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GREY, alpha=0.25)
    axes.set_title("Test error by masks (joined: the chain)", fontsize="medium", loc="left")
    axes.set_xlabel("Test error (%)")
