"""The effect of each factor of a study on the error, and whether it depends on the other factors."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.axes import level_name
from analysis.stats import DIFFERS, SAME

from .nothing import nothing, says_if_nothing
from .style import (
    COLOURS,
    GREY,
    NO_FINISHED,
    TEXT,
    TITLES,
    begins_at_zero,
    legend_beside,
    series_looks,
    stacked,
    style,
)

MAX_INTERACTIONS = 12  # more rows would be hard to read
MAX_LETTERS = 26  # of levels that lie side by side below a panel
FINDING_COLOURS = {DIFFERS: COLOURS[0], SAME: COLOURS[2]}
TITLE = {"grouping": "Grouping", "step": "Step", "variant": "Variant", **TITLES}


@says_if_nothing("No effect: two variants with finished runs are needed.", "difference")
def effects(
    effects: pd.DataFrame,
    interactions: pd.DataFrame | None = None,
    by_seed: pd.DataFrame | None = None,
) -> Figure:
    """Draw differences in test error with their intervals: main effects, and interactions below them.

    The frames are those of the same names in `stats` (`by_seed` is `effects_by_seed`: one small mark per seed).
    Filled and blue: the interval excludes 0. Filled and green: it lies within the margin that matters, which is
    shaded.
    """
    is_tracked = (effects.factor == "variant").all()
    tables, titles = [effects], ["Variants against the first" if is_tracked else "Main effects"]
    if interactions is not None and len(interactions):
        tables.append(interactions.sort_values("p", kind="stable").head(MAX_INTERACTIONS).sort_index())
        some = f",\nthe {MAX_INTERACTIONS} clearest of {len(interactions)}" * (
            len(interactions) > MAX_INTERACTIONS
        )
        titles.append(f"Interactions:\ndifferences of differences{some}")
    with style():
        names = [[effect_name(row) for _, row in table.iterrows()] for table in tables]
        heights = [0.8 + sum(0.34 + 0.12 * ("\n" in name) for name in part) for part in names]
        spans = [(table.high - table.low).max() for table in tables]
        comparable = max(spans) < 4 * min(spans)  # else wide intervals would leave no room for the others
        figure, panels = stacked(heights, sharex=comparable)
        for axes, table, title, rows in zip(panels, tables, titles, names, strict=True):
            forest(axes, table, rows)
            if by_seed is not None and table is effects:
                seed_marks(axes, table, by_seed)
            axes.set_title(title, fontsize="medium", loc="left")
        figure.supxlabel("Difference in test error (percentage points)", fontsize="medium")
        sns.despine(figure, left=True)
    return figure


def forest(axes: Axes, table: pd.DataFrame, names: list[str]) -> None:
    """Draw differences with their intervals, a row each under its name, and the margin that matters."""
    axes.axvline(0, color=GREY, lw=1)
    for margin in table.meaningful.head(1):
        axes.axvspan(-margin, margin, color=GREY, alpha=0.15, lw=0, zorder=0)
    for place, row in enumerate(table.itertuples()):
        colour = FINDING_COLOURS.get(row.finding, GREY)
        if np.isfinite(row.low):
            axes.plot([row.low, row.high], [place, place], color=colour, lw=1.6)
        axes.plot(
            row.difference, place, "o", color=colour, mfc="none" if colour == GREY else colour, ms=6, mew=1.4
        )
    axes.set_yticks(range(len(table)), names)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GREY, alpha=0.25)


def seed_marks(axes: Axes, table: pd.DataFrame, by_seed: pd.DataFrame) -> None:
    """Mark the difference in each seed below the row of a forest."""
    names = ["factor", "level", "against"]
    for place, row in enumerate(table[names].itertuples(index=False)):
        part = by_seed[(by_seed[names] == list(row)).all(axis=1)]
        axes.plot(part.difference, [place + 0.3] * len(part), "|", color=TEXT, ms=5, mew=1)


def effect_name(row: pd.Series) -> str:
    """Return 'learned − random', or for an interaction, in two lines, '(learned − random) × (full − block)'."""
    name = f"{level_name(row.factor, row.level)} − {level_name(row.factor, row.against)}"
    if "other_level" not in row:
        return name
    return (
        f"({name})\n× ({level_name(row.other, row.other_level)} − {level_name(row.other, row.other_against)})"
    )


@says_if_nothing(NO_FINISHED, "error_mean")
def interactions(summary: pd.DataFrame) -> Figure:
    """Draw the mean test error by two factors at a time: if the lines are parallel, they do not interact.

    `summary` is `stats.summary`; the cells are averaged over the other factors.
    """
    grid = summary[summary.role.isin(["base", "grid"]) & (summary.n > 0) & (summary.grouping != "none")]
    factors = [name for name in ("grouping", *TITLES) if name in grid and grid[name].nunique() > 1]
    if not (pairs := list(combinations(factors, 2))):
        return nothing("No interaction: the variants with finished runs differ in fewer than two factors.")
    with style():
        figure, panels = stacked([2.6] * len(pairs), sharey=True)
        for axes, (across, lines) in zip(panels, pairs, strict=False):
            means = grid.pivot_table(index=across, columns=lines, values="error_mean", sort=False)
            for (level, column), look in zip(
                means.items(), series_looks([str(name) for name in means.columns]).values(), strict=True
            ):
                axes.plot(range(len(means)), column, label=str(level), lw=1.6, ms=6, **look)
            levels = [str(level) for level in means.index]
            axes.set_xticks(range(len(levels)), levels, rotation=20 * (sum(map(len, levels)) > MAX_LETTERS))
            axes.set_xlabel(TITLE[across])
            axes.margins(x=0.2)
            legend_beside(axes, title=TITLE[lines], fontsize="small")
        figure.supylabel("Test error (%)", fontsize="medium")
        if begins_at_zero(grid.error_mean.min(), grid.error_mean.max()):
            panels[0].set_ylim(bottom=0)
        sns.despine(figure)
    return figure
