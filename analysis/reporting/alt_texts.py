"""The alternative text of each figure: its finding, in a sentence or two with numbers."""

from __future__ import annotations

import pandas as pd

from analysis.plots import PRUNED
from analysis.stats import SAME, pareto
from analysis.text import count

COST_NAMES = {"macs": "MACs", "params": "parameters", "flops_paper": "FLOPs"}


def tradeoff(summary: pd.DataFrame, cost: str = "macs") -> str:
    """Name the lowest error, and the variants on the Pareto front."""
    every = summary[summary.n > 0].sort_values(cost, kind="stable")
    best = every.loc[every.error_mean.idxmin()]
    front = every.iloc[pareto(every[cost].to_numpy(), every.error_mean.to_numpy())]
    named = ", ".join(
        f"{row.variant} ({count(getattr(row, cost))}, {row.error_mean:.2f} %)" for row in front.itertuples()
    )
    return (
        f"Test error against {COST_NAMES[cost]}. {best.variant} has the lowest mean error, "
        f"{best.error_mean:.2f} %. On the Pareto front: {named}."
    )


def effects(effects: pd.DataFrame, interactions: pd.DataFrame) -> str:
    """List the effects that are shown, and count those that are the same or open."""
    shown = effects[effects.effect]
    rows = [f"{row.level} − {row.against} {row.difference:+z.2f} points" for row in shown.itertuples()]
    kind = "differences to the first variant" if (effects.factor == "variant").all() else "main effects"
    found = f"{_counted(effects)} {kind}" + (f": {'; '.join(rows)}" if rows else "")
    return f"{found}." if interactions.empty else f"{found}; {_counted(interactions)} interactions."


def masks(effects: pd.DataFrame) -> str:
    """Say of each question of the study of masks what is shown."""
    parts = [
        f"{row.factor} ({row.level} − {row.against}) {row.difference:+z.2f} points, {row.finding}"
        for row in effects.itertuples()
    ]
    return f"Differences in test error: {'; '.join(parts)}."


def _counted(compared: pd.DataFrame) -> str:
    """Return how many comparisons are shown, and how many are the same within the margin."""
    same = int((compared.finding == SAME).sum())
    margin = f"{same} the same within {compared.meaningful.iloc[0]:g} points, " if same else ""
    return f"{int(compared.effect.sum())} shown, {margin}of {len(compared)}"


def interactions(interactions: pd.DataFrame) -> str:
    """Describe the largest interaction: of those that are shown, if any is."""
    shown = interactions[interactions.effect]
    row = interactions.loc[(shown if len(shown) else interactions).difference.abs().idxmax()]
    return (
        f"{len(shown)} of {len(interactions)} interactions are shown. The largest: {row.level} − {row.against} "
        f"differs by {row.difference:+z.2f} points between {row.other_level} and {row.other_against}; its "
        f"interval {'excludes' if row.effect else 'includes'} 0."
    )


def grid(summary: pd.DataFrame) -> str:
    """Name the lowest and the highest error of the grid."""
    found = summary[summary.role.isin(["base", "grid"])].dropna(subset="error_mean").sort_values("error_mean")
    first, last = found.iloc[0], found.iloc[-1]
    return (
        f"Test errors of the grid, from {first.variant} ({first.error_mean:.2f} %) "
        f"to {last.variant} ({last.error_mean:.2f} %)."
    )


def connections(connections: pd.DataFrame, value: str) -> str:
    """Name the sources that are read most and least at the end."""
    end = connections[connections.stage == "end"]
    weighted = (end[value] * end.channels).groupby(end.source).sum() / end.channels.groupby(end.source).sum()
    quantity, form = ("alive", "{:.0%}") if value == "alive" else ("mean |W|", "{:.3f}")
    most, least = weighted.idxmax(), weighted.idxmin()
    if form.format(weighted[most]) == form.format(weighted[least]):
        return (
            f"At the end the layers read all of their sources alike ({quantity} {form.format(weighted[most])})."
        )
    return (
        f"At the end the layers read {most} most ({quantity} {form.format(weighted[most])}) and {least} least "
        f"({form.format(weighted[least])})."
    )


def layer(channels: pd.DataFrame) -> str:
    """Count the connections of a layer that are left, and the inputs that no group reads."""
    alive = channels[channels.died == -1]
    inputs = channels.channel.nunique()
    readers = alive.groupby("channel").group.nunique().reindex(range(inputs), fill_value=0)
    return (
        f"Layer {channels.target.iloc[0]} keeps {len(alive)} of {len(channels)} connections. Of its {inputs} "
        f"inputs, no group reads {(readers == 0).mean():.0%} and several read {(readers > 1).mean():.0%}."
    )


def sources(end: pd.DataFrame) -> str:
    """Give the share alive of the nearest source and of distant ones."""
    ranges = {
        "the layer just before": end[end.distance == 1],
        "five or more layers before": end[end.distance >= 5],
    }
    shares = [
        f"{(part.alive * part.connections).sum() / part.connections.sum():.0%} of those to {name}"
        for name, part in ranges.items()
        if len(part)
    ]
    return f"Of the connections at the start, the layers still read {' and '.join(shares)}."


def life(epochs: pd.DataFrame, stages: pd.DataFrame) -> str:
    """Give the MACs at the start and at the end, and the last accuracy."""
    last = epochs.iloc[-1]
    fall = f"MACs fall from {count(stages.macs.iloc[0])} to {count(stages.macs.iloc[-1])}"
    text = f"{fall} over {int(last.epoch)} epochs"
    if pd.isna(last.curve_error_percent):
        return f"{text}."
    return f"{text}; accuracy on the {last.curves_on} images ends at {100 - last.curve_error_percent:.1f} %."


def steps(steps: pd.DataFrame) -> str:
    """Describe the pruning step that raised the error most, and how far the error recovered."""
    mean = steps.groupby("stage")[["error_before", "error_after", "error_recovered"]].mean()
    worst = (mean.error_after - mean.error_before).idxmax()
    row = mean.loc[worst]
    return (
        f"The step into stage {worst} costs most: error {row.error_before:.1f} % before, {row.error_after:.1f} "
        f"% right after, {row.error_recovered:.1f} % recovered."
    )


def macs(stages: pd.DataFrame) -> str:
    """Give the MACs of each variant at the start and at the end."""
    parts = [
        f"{variant} from {count(part.macs.iloc[0])} to {count(part.macs.iloc[-1])}"
        for variant, part in stages.groupby("variant", sort=False)
    ]
    return f"MACs of the network during training: {'; '.join(parts)}."


def cost(parts: pd.DataFrame) -> str:
    """Give each operator's share of the final MACs, and how much was pruned."""
    total = parts.groupby("part", sort=False).macs.sum()
    left = total[[part for part in total.index if not part.startswith(PRUNED)]]
    shares = ", ".join(f"{part} {value / left.sum():.0%}" for part, value in left.items())
    pruned = total.sum() - left.sum()
    return (
        f"Of {count(left.sum())} MACs at the end: {shares}. Pruning removed {count(pruned)} "
        f"({pruned / total.sum():.0%})."
    )


def times(times: pd.DataFrame) -> str:
    """Give the fastest and slowest execution of the network whose MACs fell most."""
    rows = times.assign(saved=times.computed_macs / times.macs)
    most = rows[rows.model == rows.loc[rows.saved.idxmax(), "model"]].sort_values("milliseconds")
    fastest, slowest = most.iloc[0], most.iloc[-1]
    return (
        f"{most.model.iloc[0]} has {count(most.macs.iloc[0])} MACs; one image takes "
        f"{fastest.milliseconds:.3g} ms with {fastest.execution} and {slowest.milliseconds:.3g} ms with "
        f"{slowest.execution}."
    )


def waterfall(parts: pd.DataFrame) -> str:
    """Give the time of each execution."""
    whole = parts.groupby("execution", sort=False).milliseconds.sum()
    return f"{parts.model.iloc[0]}: {', '.join(f'{name} {value:.3g} ms' for name, value in whole.items())}."
