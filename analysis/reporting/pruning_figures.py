"""Figures of the connections that survive: in the whole network, in one layer, and by distance."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis import frames, plots
from analysis.plots import shares_by_distance

from . import alt_texts
from .report_figure import ReportFigure, StudyData, learned_runs, shown_run

HEAT_MAPS = {
    "alive": (
        "Which connections survive",
        "Colour: share of the connections between two layers that are alive.",
    ),
    "mean_weight": (
        "How strong they are",
        "Colour: mean absolute weight between two layers; a pruned weight counts as 0.",
    ),
}


def connections(data: StudyData) -> Iterator[ReportFigure]:
    """Draw the connections of one learned run: heat maps of all stages, and its last layer in full."""
    shown = shown_run(data.runs)
    if shown is None:
        return
    connections = frames.connections(data.named([shown]))
    text = f"Run {shown}: source layers down, target layers across, at the start of each stage and at the end."
    for value, (title, meaning) in HEAT_MAPS.items():
        yield ReportFigure(
            f"connections-{value.replace('_', '-')}",
            title,
            f"{text} {meaning} Grey: there are no connections.",
            alt_texts.connections(connections, value),
            plots.pruned_connections(connections, value),
            wide_connections(connections, value),
        )
    channels = frames.channels(data.named([shown]), connections.target.iloc[-1])
    last = "layer that learns groups" if data.is_tracked else "1×1 convolution"
    yield ReportFigure(
        "layer",
        "One layer in full",
        f"Run {shown}, the last {last}, group by group and input by input. Above: the connections "
        "that are alive, in the colour of their source layer; below: the stage at whose start each was pruned.",
        alt_texts.layer(channels),
        plots.layer_connections(channels),
        layer_counts(channels),
    )


def wide_connections(connections: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return a table with one row per target and source, one column per stage."""
    keys = ["target", "source", "channels"]
    table = connections.pivot_table(
        index=["target_position", "source_position", *keys], columns="stage", values=value, sort=True
    )
    stages = list(dict.fromkeys(connections.stage))
    table = table[stages].rename(columns=lambda stage: "at the end" if stage == "end" else f"stage {stage}")
    return table.reset_index().drop(columns=["target_position", "source_position"])


def layer_counts(channels: pd.DataFrame) -> pd.DataFrame:
    """Count the connections of a layer that are alive, by group and source."""
    alive = channels.assign(alive=(channels.died == -1).astype(int))
    table = alive.pivot_table(index="group", columns="source", values="alive", aggfunc="sum", sort=False)
    return table.reset_index()


def sources(data: StudyData) -> Iterator[ReportFigure]:
    """Draw the share of connections alive by distance, for the growth and connectivity of the learned grid."""
    chosen = learned_runs(data.runs)
    chosen = chosen[chosen.role.isin(["base", "grid", "tracked"])]
    if chosen.empty:
        return
    levels = ["variant"] if data.is_tracked else ["growth", "connectivity"]
    factors = tuple(name for name in levels if chosen[name].nunique() > 1) or (levels[0],)
    end = frames.connections(data.named(chosen.run), "end")
    if end.distance.nunique() < 2:  # every layer of a tracked network reads one other
        return
    end = end.merge(chosen[["run", *levels]], on="run")
    shares = pd.concat(
        [
            shares_by_distance(part).assign(**dict(zip(levels, found, strict=True)))
            for found, part in end.groupby(levels, sort=False)
        ],
        ignore_index=True,
    )
    yield ReportFigure(
        "sources",
        "Which sources are read",
        "Share of connections alive at the end by the distance from source to target: mean over the runs with "
        "its 95 % interval; 1 is the layer just before. Other factors than the panel's are as in the base.",
        alt_texts.sources(end),
        plots.sources_read(end, factors),
        shares[[*levels, "distance", "share", "low", "high", "runs"]],
    )
