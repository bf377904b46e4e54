"""MACs by layer, operator and stage, and the time that they take."""

from __future__ import annotations

import itertools
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .nothing import nothing, says_if_nothing
from .style import (
    COUNTS,
    GREY,
    WIDTH,
    label_points,
    legend_below,
    one_run,
    series_looks,
    stacked,
    style,
    thinned,
)


@says_if_nothing("No layer with a cost.", "macs")
def cost_by_layer(layers: pd.DataFrame) -> Figure:
    """Draw the MACs of one run's network by layer and by block, stacked by operator and stage.

    `layers` is `frames.layers` of one run. The MACs left in the last stage are at the bottom; paler above
    them, those that each pruning step removed.
    """
    one_run(layers)
    if not (layers.macs > 0).any():
        return nothing("No layer with a cost.")
    parts = cost_parts(layers)
    by_layer = parts.groupby(["place", "part"], sort=False).macs.sum().unstack().fillna(0)
    by_block = parts.groupby(["block", "part"], sort=False).macs.sum().unstack().fillna(0)
    along = parts.sort_values("position", kind="stable")
    names, blocks = list(dict.fromkeys(along.place)), list(dict.fromkeys(along.block))
    order = list(dict.fromkeys(parts.part))
    looks = dict(zip(order, _looks(order), strict=True))
    with style():
        heights = [
            2.6 + 0.07 * max(len(str(name)) for name in part) for part in (names, blocks)
        ]  # they stand upright
        figure, (above, below) = stacked(heights)
        for axes, table in ((above, by_layer.loc[names]), (below, by_block.loc[blocks])):
            _stacked(axes, table[order], looks)
            axes.yaxis.set_major_formatter(COUNTS)
        above.set_xticks(*thinned(names, 24), rotation=90, fontsize="small")
        below.set_xticks(range(len(blocks)), blocks, rotation=90, fontsize="small")
        figure.supylabel("MACs", fontsize="medium")
        above.set_xlabel("Layer")
        below.set_xlabel("Block")
        legend_below(figure, above, reverse=True)
        sns.despine(figure)
    return figure


def cost_parts(layers: pd.DataFrame) -> pd.DataFrame:
    """Return MACs by layer and part: each operator at the end, and the MACs that each stage removed from it."""
    costly = layers[layers.macs > 0]
    found = list(dict.fromkeys(costly.stage))
    stages = [stage for stage in found if stage != "end"] or found
    table = costly.pivot_table(index=["position", "layer", "block", "operator"], columns="stage", values="macs")
    table = table[stages].reset_index().sort_values("position")
    operators, rows = _operators(table), []
    for _, row in table.iterrows():
        base = {
            "position": row.position,
            "place": place_name(row.layer),
            "block": row.block.replace("transition", "t").replace("block", "block "),
        }
        rows.append(base | {"part": operators[row.operator], "macs": row[stages[-1]]})
        for before, stage in itertools.pairwise(stages):
            if row[before] > row[stage]:
                rows.append(base | {"part": f"{PRUNED}{stage}", "macs": row[before] - row[stage]})
    frame = pd.DataFrame(rows)
    order = [*operators.values(), *(f"{PRUNED}{stage}" for stage in reversed(stages))]
    rank = frame.part.map({part: place for place, part in enumerate(order)})
    return frame.assign(rank=rank).sort_values("rank", kind="stable").drop(columns="rank")


OPERATORS = {"conv3x3": "3×3", "linear": "classifier", "conv1x1": "1×1"}
PRUNED = "pruned at stage "  # begins the name of a part that is no longer computed


def _operators(layers: pd.DataFrame) -> dict[str, str]:
    """Return the name of each operator: those of a CondenseNet first, then what else there is."""
    several = (layers.operator == "linear").sum() > 1
    known = OPERATORS | ({"linear": "linear"} if several else {})
    return known | {
        name: name.removeprefix("conv").replace("x", "×") if name.startswith("conv") else name
        for name in layers.operator
        if name not in known
    }


def place_name(layer: str) -> str:
    """Return 2.1 for 'blocks.block2.0.conv1', t1 for 'blocks.transition1.conv'.

    Of other modules it is what contains them, if anything does: layer1.0 for 'layer1.0.conv1'.
    """
    if not layer.startswith("blocks."):
        return layer.rpartition(".")[0] or layer
    parts = layer.removeprefix("blocks.").split(".")
    if parts[0].startswith("block"):
        return f"{parts[0].removeprefix('block')}.{int(parts[1]) + 1}"
    return parts[0].replace("transition", "t")


def _looks(parts: list[str]) -> list[dict[str, Any]]:
    """Return a colour per operator; pruned parts have the colour of the 1×1, later stages paler."""
    blue, orange, green, *others = sns.color_palette("colorblind", 10)
    solid = {"3×3": orange, "classifier": green, "linear": green, "1×1": blue}
    pruned = [part for part in parts if part.startswith(PRUNED)]
    unknown = [part for part in parts if part not in (*solid, *pruned)]
    solid |= dict(zip(unknown, itertools.cycle(others), strict=False))
    pale = sns.light_palette(blue, len(pruned) + 2)[1:-1][::-1]
    looks: list[dict[str, Any]] = [{"color": solid[part]} for part in parts if part in solid]
    return looks + [{"color": shade, "hatch": "////", "edgecolor": "white", "lw": 0} for shade in pale]


def _stacked(axes: Axes, table: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    bottom = np.zeros(len(table))
    with mpl.rc_context({"hatch.linewidth": 0.8}):
        for part in table.columns:
            axes.bar(range(len(table)), table[part], 0.8, bottom, label=part, **looks[part])
            bottom += table[part].to_numpy()
    axes.margins(x=0.02)


@says_if_nothing("No time was measured.", "milliseconds")
def time_against_macs(times: pd.DataFrame) -> Figure:
    """Draw the measured time of one image against MACs, both axes logarithmic, one series per execution.

    `times` has one row per model and execution: model, execution, macs, milliseconds (median) and its 95 %
    interval, low and high. Dotted: time in proportion to MACs, through the point with the most MACs per
    millisecond.
    """
    times = times.dropna(subset=["macs", "milliseconds"])
    if times.empty:
        return nothing("No time was measured of a network whose MACs are known.")
    with style():
        figure = Figure(figsize=(WIDTH, 5))
        axes = figure.subplots()
        names = list(dict.fromkeys(times.execution))[
            ::-1
        ]  # ours are measured last and get the strongest colour
        for name, look in series_looks(names).items():
            part = times[times.execution == name].sort_values("macs")
            arms = np.vstack([part.milliseconds - part.low, part.high - part.milliseconds])
            looks: Any = {"ls": "none", "ms": 5.5, "elinewidth": 1, "capsize": 2.5, "label": name} | look
            axes.errorbar(part.macs, part.milliseconds, arms, **looks)
        axes.set(xscale="log", yscale="log", xlabel="MACs of one image", ylabel="Milliseconds for one image")
        axes.margins(0.12)
        span, height = np.array(axes.get_xlim()), axes.get_ylim()
        proportional = span * (times.milliseconds / times.macs).min()
        axes.plot(span, proportional, ":", color=GREY, lw=1.2, label="in proportion to MACs")
        axes.set(xlim=span, ylim=height)
        axes.xaxis.set_major_formatter(COUNTS)
        axes.yaxis.set_major_formatter(COUNTS)
        legend_below(figure, axes)
        sns.despine(figure)
        once = times.sort_values("milliseconds").drop_duplicates("model")
        label_points(axes, once.macs, once.milliseconds, list(once.model))
    return figure


PARTS = (
    *("1×1", "3×3", "normalisation", "concatenation", "gather", "shuffle"),
    *("layer in one call", "stem, pooling, head"),
)


@says_if_nothing("No part of a network was timed.", "milliseconds")
def waterfall(parts: pd.DataFrame) -> Figure:
    """Draw the time of one network by part, one bar per execution, to show which savings in MACs save no time.

    `parts` is `frames.parts` of one network and batch. Raise ValueError if there are several.
    """
    if len(parts.drop_duplicates(["model", "batch", "date"])) != 1:
        raise ValueError("parts: must be of one network, batch and measurement; choose it")
    table = parts.pivot_table(
        index="execution", columns="part", values="milliseconds", aggfunc="sum", sort=False, fill_value=0
    )
    names = list(dict.fromkeys(parts.execution))
    with style():
        figure = Figure(figsize=(WIDTH, 2.4 + 0.45 * len(names)))
        axes = figure.subplots()
        left = np.zeros(len(names))
        colours = sns.color_palette("colorblind", len(PARTS))
        for part, colour in zip(PARTS, colours, strict=True):
            if part in table:
                width = table.loc[names, part].to_numpy()
                axes.barh(names, width, 0.7, left, label=part, color=colour, edgecolor="white", lw=0.5)
                left += width
        for place, value in enumerate(left):
            text: Any = {"textcoords": "offset points", "va": "center", "fontsize": "small"}
            axes.annotate(f"{value:.3g}", (value, place), (4, 0), **text)
        axes.invert_yaxis()
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
        batch = int(parts.batch.iloc[0])
        axes.set_xlabel("Milliseconds for one image" if batch == 1 else f"Milliseconds for {batch} images")
        legend_below(figure, axes)
        sns.despine(figure)
    return figure
