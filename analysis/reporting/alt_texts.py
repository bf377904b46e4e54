"""What each figure shows, in a sentence or two with its numbers: the text that stands in for it."""

from __future__ import annotations

import pandas as pd

from analysis.plots import count
from analysis.plots.cost import OPERATORS
from analysis.stats import pareto

COST_NAMES = {"macs": "MACs", "params": "parameters", "flops_paper": "FLOPs"}


def tradeoff(summary: pd.DataFrame, cost: str = "macs") -> str:
    """The lowest error, and the variants on the front."""
    every = summary[summary.n > 0].sort_values(cost, kind="stable")
    best = every.loc[every.error_mean.idxmin()]
    front = every.iloc[pareto(every[cost].to_numpy(), every.error_mean.to_numpy())]
    named = ", ".join(
        f"{row.variant} ({count(getattr(row, cost))}, {row.error_mean:.2f} %)" for row in front.itertuples()
    )
    return (
        f"Test error against {COST_NAMES[cost]}. The lowest mean error, {best.error_mean:.2f} %, is that of "
        f"{best.variant}. On the Pareto front: {named}."
    )


def effects(effects: pd.DataFrame, interactions: pd.DataFrame) -> str:
    """Which effects are shown."""
    shown = effects[effects.effect]
    text = "; ".join(f"{row.level} − {row.against} {row.difference:+.2f} points" for row in shown.itertuples())
    found = (
        f"Shown are {len(shown)} of {len(effects)} main effects: {text}"
        if len(shown)
        else "No main effect is shown"
    )
    if interactions.empty:
        return f"{found}."
    return f"{found}; {int(interactions.effect.sum())} of {len(interactions)} interactions."


def interactions(interactions: pd.DataFrame) -> str:
    """The largest interaction, of those that are shown if any is."""
    shown = interactions[interactions.effect]
    row = interactions.loc[(shown if len(shown) else interactions).difference.abs().idxmax()]
    held = "excludes" if row.effect else "holds"
    return (
        f"{len(shown)} of {len(interactions)} interactions are shown. The lines differ in slope for "
        f"{row.level} − "
        f"{row.against} between {row.other_level} and {row.other_against}: {row.difference:+.2f} points, whose "
        f"interval {held} 0."
    )


def grid(summary: pd.DataFrame) -> str:
    """The lowest and the highest error of the grid."""
    found = summary[summary.role.isin(["base", "grid"])].dropna(subset="error_mean").sort_values("error_mean")
    first, last = found.iloc[0], found.iloc[-1]
    return (
        f"Test errors of the grid, from {first.variant} ({first.error_mean:.2f} %) "
        f"to {last.variant} ({last.error_mean:.2f} %)."
    )


def connections(connections: pd.DataFrame, value: str) -> str:
    """The source that is read most and the one that is read least at the end."""
    end = connections[connections.stage == "end"]
    weighted = (end[value] * end.channels).groupby(end.source).sum() / end.channels.groupby(end.source).sum()
    what, form = ("alive", "{:.0%}") if value == "alive" else ("mean |W|", "{:.3f}")
    most, least = weighted.idxmax(), weighted.idxmin()
    return (
        f"At the end the layers read most of {most} ({what} {form.format(weighted[most])}) and least of "
        f"{least} "
        f"({form.format(weighted[least])})."
    )


def layer(channels: pd.DataFrame) -> str:
    """How many connections of a layer are left, and how many inputs no group reads."""
    alive = channels[channels.died == -1]
    inputs = channels.channel.nunique()
    readers = alive.groupby("channel").group.nunique().reindex(range(inputs), fill_value=0)
    return (
        f"Layer {channels.target.iloc[0]} keeps {len(alive)} of {len(channels)} connections; of its {inputs} "
        "inputs "
        f"{(readers == 0).mean():.0%} are read by no group and {(readers > 1).mean():.0%} by more than one."
    )


def sources(end: pd.DataFrame) -> str:
    """The share alive of the nearest source and of far ones."""
    parts = []
    for name, part in (
        ("the layer just before", end[end.distance == 1]),
        ("five and more before", end[end.distance >= 5]),
    ):
        if len(part):
            share = (part.alive * part.connections).sum() / part.connections.sum()
            parts.append(f"{share:.0%} of {name}")
    return f"Of the connections that there were, the layers still read {' and '.join(parts)}."


def life(epochs: pd.DataFrame, stages: pd.DataFrame) -> str:
    """From which MACs to which, and the last accuracy."""
    last = epochs.iloc[-1]
    return (
        f"MACs fall from {count(stages.macs.iloc[0])} to {count(stages.macs.iloc[-1])} over {int(last.epoch)} "
        "epochs; "
        f"accuracy on the {last.curves_on} images ends at {100 - last.curve_error_percent:.1f} %."
    )


def steps(steps: pd.DataFrame) -> str:
    """The step that cost most, and what was left of it."""
    mean = steps.groupby("stage")[["error_before", "error_after", "error_recovered"]].mean()
    worst = (mean.error_after - mean.error_before).idxmax()
    row = mean.loc[worst]
    return (
        f"The step into stage {worst} costs most: error {row.error_before:.1f} % before, "
        f"{row.error_after:.1f} % right "
        f"after, {row.error_recovered:.1f} % recovered."
    )


def macs(stages: pd.DataFrame) -> str:
    """From which MACs to which, by variant."""
    parts = [
        f"{variant} from {count(part.macs.iloc[0])} to {count(part.macs.iloc[-1])}"
        for variant, part in stages.groupby("variant", sort=False)
    ]
    return f"MACs of the network during training: {'; '.join(parts)}."


def cost(parts: pd.DataFrame) -> str:
    """What share each operator has in the end, and how much was pruned."""
    total = parts.groupby("part", sort=False).macs.sum()
    left = total[[part for part in total.index if part in OPERATORS.values()]]
    shares = ", ".join(f"{part} {value / left.sum():.0%}" for part, value in left.items())
    pruned = total.sum() - left.sum()
    return (
        f"Of {count(left.sum())} MACs in the end: {shares}. Pruning took {count(pruned)} "
        f"({pruned / total.sum():.0%})."
    )


def times(times: pd.DataFrame) -> str:
    """For the network whose MACs fell most, what became of its time."""
    rows = times.assign(saved=times.computed_macs / times.macs)
    most = rows[rows.model == rows.loc[rows.saved.idxmax(), "model"]].sort_values("milliseconds")
    fastest, slowest = most.iloc[0], most.iloc[-1]
    return (
        f"{most.model.iloc[0]} computes {count(most.macs.iloc[0])} MACs; one image takes "
        f"{fastest.milliseconds:.3g} ms by {fastest.execution} and {slowest.milliseconds:.3g} ms by "
        f"{slowest.execution}."
    )


def waterfall(parts: pd.DataFrame) -> str:
    """What each execution takes."""
    whole = parts.groupby("execution", sort=False).milliseconds.sum()
    return (
        f"{parts.model.iloc[0]}: " + ", ".join(f"{name} {value:.3g} ms" for name, value in whole.items()) + "."
    )
