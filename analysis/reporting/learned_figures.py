"""The chapter "What was learned": what other seeds learn too, and when each connection was decided."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis import frames, plots, stats
from analysis.text import interval

from .report_figure import ReportFigure, StudyData, learned_runs, shown_run

CHAPTER = "What was learned"
TOLERANCE = 1.0  # points of error
ERRORS = ["loss", "error_percent", "loss_anew", "error_percent_anew"]
CLOSE = 0.05  # margin of a close call
MOST = 0.95  # of the final connections
FATE = ["target", "group", "channel", "source", "died", "rank", "margin"]
MOST_LINES = 40  # in a picture
MOST_SEEDS = 10  # that are compared in pairs


def decided(data: StudyData) -> Iterator[ReportFigure]:
    """Draw how many of the final connections the scores would have chosen at each moment, by variant."""
    chosen = learned_runs(data.runs)
    chosen = chosen[chosen.role.isin(["base", "grid", "tracked"])] if len(chosen) else chosen
    counts = frames.decided(data.named(chosen.run) if len(chosen) else [])
    if counts.empty:
        return
    counts = counts.merge(chosen[["run", "variant"]], on="run")
    yield ReportFigure(
        "decided",
        "How much was decided when",
        "Share of the final connections that one pruning step by the importance Σ|W| would have chosen at each "
        "moment, of those alive then; epoch 0: the weights as drawn. Bands: 95 % interval over the seeds. "
        "Dashed: a choice by chance among the connections alive.",
        decided_text(counts),
        plots.decided(counts),
        stats.agreed(counts, "variant", "epoch"),
        CHAPTER,
    )


def decided_text(counts: pd.DataFrame) -> str:
    """Give the share of the first variant that the weights as drawn would have chosen, and when most was."""
    first = counts[counts.variant == counts.variant.iloc[0]]
    rows = stats.agreed(first, "epoch").sort_values("epoch")
    drawn = rows.iloc[0]
    later = [
        f" {MOST:.0%} are decided after {row.epoch:.3g} epochs, where chance is {row.chance:.0%}."
        for row in rows[rows.share >= MOST].head(1).itertuples()
    ]  # by another criterion than the importance it may never be so many
    return (
        f"The scores of the weights as drawn would have chosen {drawn.share:.0%} of the final connections of "
        f"{first.variant.iloc[0]}, where chance is {drawn.chance:.0%}.{''.join(later)}"
    )


def agreement(data: StudyData) -> Iterator[ReportFigure]:
    """Draw how far the seeds of the shown run's variant agree on the connections that they keep."""
    if (shown := shown_run(data.runs)) is None:
        return
    variant = data.runs.variant[data.runs.run == shown].iloc[0]
    chosen = learned_runs(data.runs)
    counts = frames.agreement(data.named(chosen.run[chosen.variant == variant].head(MOST_SEEDS)))
    if counts.empty:
        return
    yield ReportFigure(
        "agreement",
        "What other seeds learn too",
        f"Connections of {variant} that two seeds both keep, beyond those of independent choices (inputs "
        "permuted), groups matched: mean over the pairs of seeds, bands: 95 % interval. Two seeds number the "
        "channels of a layer differently, so they can hardly agree on channels; on how many are read they can.",
        agreement_text(counts),
        plots.agreement(counts),
        stats.agreed(counts, "unit", "target"),
        CHAPTER,
    )


def agreement_text(counts: pd.DataFrame) -> str:
    """Give the agreement of the seeds in channels and in sources, with its interval."""
    rows = stats.agreed(counts, "unit").set_index("unit")
    said = {"channel": "the same channels", "source": "how many channels of each layer they read"}
    parts = [f"{row.agreement:z.2f}{_interval(row)} in {said[str(row.Index)]}" for row in rows.itertuples()]
    return f"{int(rows.runs.iloc[0])} seeds agree by {' and by '.join(parts)}; 0 is chance, 1 the same."


def _interval(row: Any) -> str:
    return "" if pd.isna(row.low) else f" ({interval(row.low, row.high)})"


def sensitivity(data: StudyData) -> Iterator[ReportFigure]:
    """Draw what each layer may lose alone, and what is stale at each step, of the first run that knows."""
    layers = frames.sensitivity(data.named(learned_runs(data.runs).run))
    if layers.empty:
        return
    run = layers.run.iloc[0]
    layers, steps = layers[layers.run == run], frames.statistics(data.named([run]))
    yield ReportFigure(
        "sensitivity",
        "Which layers could have lost more",
        f"Run {run}, before its first pruning step: one layer alone loses a share of its inputs, the least "
        "important first, without training. Error on the images of the curves. A norm's statistics are means "
        "over the steps before and do not fit a pruned network; below they are taken anew on training images.",
        sensitivity_text(layers),
        plots.sensitivity(layers),
        layers[["target", "share", *ERRORS]],
        CHAPTER,
    )
    yield ReportFigure(
        "statistics",
        "What of each pruning step is stale statistics",
        f"Run {run}: error right after each pruning step less the error right before it, with the norms' "
        "statistics as they were, and taken anew before and after. What these leave is what the dropped "
        "connections were worth at that moment.",
        statistics_text(steps),
        plots.stale_statistics(steps),
        steps.drop(columns="run"),
        CHAPTER,
    )


def sensitivity_text(layers: pd.DataFrame) -> str:
    """Name the layers that may lose most and least for a point of error."""
    rows = frames.allowed_shares(layers, TOLERANCE)
    most, least = rows.iloc[0], rows.iloc[-1]
    return (
        f"With statistics taken anew, layer {most.target} alone may lose {most.share:.0%} of its inputs for "
        f"{TOLERANCE:g} point of error, layer {least.target} {least.share:.0%}."
    )


def statistics_text(steps: pd.DataFrame) -> str:
    """Give for each step by how much the error rises with both kinds of statistics."""
    parts = [
        f"into stage {stage} by {own:+z.1f} points, with statistics taken anew by {anew:+z.1f}"
        for stage, own, anew in zip(steps.stage, *frames.rises(steps).values(), strict=True)
    ]
    return f"The error changes at the step {'; '.join(parts)}."


def budget(data: StudyData) -> Iterator[ReportFigure]:
    """Draw the condense factor of each layer under an uneven budget, beside the base's one for all."""
    runs = data.done.drop_duplicates("role").set_index("role").run
    if not {"base", "budget"} <= {*runs.index}:
        return
    factors = frames.factors(data.named(runs[["base", "budget"]]))
    yield ReportFigure(
        "budget",
        "The uneven budget by layer",
        "Above: the condense factor of each layer, chosen by what pruning the layer alone costs in the run "
        "that the budget is from; grey: the uniform network. Below: the MACs of each layer in the end, whose "
        "sum is as near to the uniform network's as whole factors allow.",
        budget_text(factors),
        plots.budget(factors),
        factors,
        CHAPTER,
    )


def budget_text(factors: pd.DataFrame) -> str:
    """Name the layers that an uneven budget prunes least and most, and give its cost."""
    base, own = (rows for _, rows in factors.groupby("run", sort=False))
    ends = []
    for factor in (own.condense_factor.min(), own.condense_factor.max()):
        targets = list(own.target[own.condense_factor == factor])
        ends.append(f"{'layer' if len(targets) == 1 else 'layers'} {', '.join(targets)} (C = {factor})")
    more = 100 * (own.macs.sum() / base.macs.sum() - 1)
    return (
        f"The uneven budget prunes {ends[0]} least and {ends[1]} most; the uniform network has "
        f"C = {base.condense_factor.iloc[0]} everywhere. The MACs of the 1×1 layers differ by {more:+.1f} %."
    )


def ranks(data: StudyData) -> Iterator[ReportFigure]:
    """Draw the ranks of the inputs of the last layer's first group over the epochs, in the shown run."""
    if (shown := shown_run(data.runs)) is None:
        return
    run = data.named([shown])[0]
    fates = frames.channels(run)
    inputs = fates.groupby("target", sort=False).channel.nunique()
    target = [*inputs.index[:1], *inputs[inputs <= MOST_LINES].index][-1]
    ranks = frames.ranks(run, target)
    yield ReportFigure(
        "ranks",
        "When each connection was decided",
        f"Run {shown}: the rank of each input by the importance Σ|W| in its group, at the start of every "
        "stage and after every recorded epoch. A line ends where the input is pruned. Margin: importance of "
        "a connection over that of the last input that its group kept, less 1.",
        ranks_text(fates),
        plots.ranks(ranks[ranks.group == 0]),
        fates[(fates.target == target) & (fates.group == 0)][FATE],
        CHAPTER,
    )


def ranks_text(fates: pd.DataFrame) -> str:
    """Count the connections that a run pruned, and those of them that were close calls."""
    dead = fates[fates.died > 0]
    near = (dead.margin > -CLOSE).sum()
    close, median = near / max(len(dead), 1), -dead.margin.median()
    return (
        f"The run prunes {len(dead)} of {len(fates)} connections. {close:.0%} of these had at least "
        f"{1 - CLOSE:.0%} of the importance of the last one that their group kept; half of them were "
        f"{median:.0%} or more below it."
    )
