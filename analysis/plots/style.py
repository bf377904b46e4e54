"""The style of all figures: seaborn's look, colour-blind-safe colours, short numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from analysis.text import count
from condense_core.tables import GROUPINGS

COLOURS = sns.color_palette("colorblind", 10)
PALETTE: dict[str, Any] = dict(
    zip(GROUPINGS, [*COLOURS[:2], COLOURS[9], COLOURS[2], COLOURS[4], "0.3"], strict=False)
)
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), "-.", (2, (2, 5)), ":")
MARKERS: dict[str, str] = dict(zip(GROUPINGS, "osPDv^", strict=False))
LABELS = {"none": "none (dense)"}
TITLES = {
    "growth": "Growth",
    "connectivity": "Connectivity",
    "groups": "Groups",
    "condense_factor": "Condense factor",
    "group_lasso": "Group lasso",
    "pruning": "Pruning",
    "criterion": "Criterion",
    "budget": "Budget",
}
TEXT = "#262626"  # seaborn's text colour; the report makes it light on a dark page
LABEL_PLACES = {
    (6, 0): ("left", "center"),
    (-6, 0): ("right", "center"),
    (0, 6): ("center", "bottom"),
    (0, -6): ("center", "top"),
    (5, 5): ("left", "bottom"),
    (-5, 5): ("right", "bottom"),
    (5, -5): ("left", "top"),
    (-5, -5): ("right", "top"),
    (11, 12): ("left", "bottom"),
    (-11, 12): ("right", "bottom"),
    (11, -12): ("left", "top"),
    (-11, -12): ("right", "top"),
}  # offset from the labelled point, in points: alignment
WIDTH = 4.8  # inches: a phone of 420 pixels shows this at 0.84 of its size, and text can still be read
MAX_NAME = 48
NUDGE = 0.02  # share of an axis by which marks of one value are moved apart
LOG_RANGE, NARROW = 3, 1.2  # max / min: an axis is logarithmic above the first, starts at 0 below the second
NO_FINISHED = "No variant has a finished run."
GREY, FAINT = "#808080", "#d9d9d9"

_SETTINGS: Any = {
    "svg.hashsalt": "condense",
    "font.sans-serif": ["DejaVu Sans"],  # it comes with matplotlib: the same figure everywhere
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "axes.facecolor": "none",
    "text.parse_math": False,  # names may contain dollar signs
    "text.usetex": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Use seaborn's look for the figures drawn in the block, and only for them."""
    with sns.axes_style("ticks"), sns.plotting_context("paper", font_scale=1.1), mpl.rc_context(_SETTINGS):
        yield


COUNTS = FuncFormatter(lambda value, _: count(value))


def interval_arms(part: pd.DataFrame) -> np.ndarray:
    """Return the arms of each mean error's 95 % interval (`stats.summary`); 0 for a single run: (2, n)."""
    arms = np.vstack([part.error_mean - part.error_low, part.error_high - part.error_mean])
    return np.nan_to_num(arms.astype(float))


def series_looks(names: list[str]) -> dict[str, dict[str, Any]]:
    """Return colour and marker of each series: groupings always look the same, others take them in turn."""
    if PALETTE.keys() >= set(names):
        return {name: {"color": PALETTE[name], "marker": MARKERS[name]} for name in names}
    colours = sns.color_palette("colorblind", len(names)) if len(names) <= 10 else sns.husl_palette(len(names))
    return {
        name: {"color": colour, "marker": "osDv^P*X<>"[place % 10]}
        for place, (name, colour) in enumerate(zip(names, colours, strict=True))
    }


def cost_axis(axes: Axes, label: str, values: pd.Series) -> None:
    """Label the axis of a cost, and make it logarithmic if its range is wide."""
    axes.set_xlabel(label)
    if len(values) and values.max() > LOG_RANGE * values.min():
        axes.set_xscale("log")
        decades = np.log10(values.max() / values.min())
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.6 else (1,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif (
        len(values) and values.max() < NARROW * values.min()
    ):  # a narrow axis would exaggerate small differences
        axes.set_xlim(0, 2 * values.max())
    axes.xaxis.set_major_formatter(COUNTS)


def stacked(heights: Sequence[float], **settings: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels one below the other, with these heights in inches, and the panels."""
    figure = Figure(figsize=(WIDTH, sum(heights)))
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights, **settings)
    return figure, list(panels[:, 0])


def apart(values: pd.Series, every: pd.Series, places: float | pd.Series) -> pd.Series:
    """Move values by some places on the axis of every value, which is logarithmic if its range is wide."""
    low, high = every.min(), every.max()
    if 0 < LOG_RANGE * low < high:
        return values * (high / low) ** (NUDGE * places)
    return values + NUDGE * places * (high - low if high > NARROW * low else 2 * high)


def begins_at_zero(low: float, high: float) -> bool:
    """Return whether an axis of marks begins at 0: far from it, differences could not be seen."""
    return low < 0.5 * high or low == high


def legend_beside(axes: Axes, **settings: Any) -> None:
    """Draw the legend of a few short names on the right of the axes, where it hides nothing."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), **settings)


def legend_below(
    figure: Figure, *axes: Axes, handles: Sequence[Any] = (), title: str | None = None, reverse: bool = False
) -> None:
    """Draw the legend of some axes, or of given handles, below a figure, in as many columns as fit."""
    found = handles or [handle for part in axes for handle in part.get_legend_handles_labels()[0]]
    names = [_shortened(str(handle.get_label())) for handle in found]
    columns = int(figure.get_figwidth() / (0.5 + 0.07 * max(map(len, names), default=1)))  # inches
    figure.legend(
        found,
        names,
        loc="outside lower left",
        ncols=max(1, min(columns, 4)),
        fontsize="small",
        title=title,
        alignment="left",
        reverse=reverse,
    )


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def heat() -> Colormap:
    """Return a perceptually even colour map, grey for missing values."""
    return mpl.colormaps["viridis"].with_extremes(bad=FAINT)


def thinned(labels: Sequence[str], most: int = 12) -> tuple[range, list[str]]:
    """Return places and texts of at most about `most` ticks."""
    every = max(1, -(-len(labels) // most))
    return range(0, len(labels), every), list(labels[::every])


def name_layers(axes: Axes, layers: Sequence[str]) -> None:
    """Name layers below their places 0, 1, …; many names are thinned out and stand upright."""
    axes.set_xticks(*thinned(layers), rotation=90 * (len(layers) > 8))


def one_run(frame: pd.DataFrame) -> None:
    """Raise ValueError if a frame has several runs, which a figure would mix."""
    if "run" in frame and frame.run.nunique() > 1:
        raise ValueError(f"run: the frame has {frame.run.nunique()} runs, but this figure shows one; choose it")


def stage_title(stage: str) -> str:
    """Return 'stage 2' or 'at the end'."""
    return "at the end" if stage == "end" else f"stage {stage}"


def label_points(axes: Axes, x: Sequence[float], y: Sequence[float], labels: Sequence[str]) -> None:
    """Draw a small label next to each point, on a side where it covers no other point or label."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # positions are known only after the layout
    figure.set_layout_engine("none")  # keep these positions
    points = axes.transData.transform(np.column_stack([x, y]))
    taken = [Bbox.from_bounds(left - 4, low - 4, 8, 8) for left, low in points]
    for place, text in zip(zip(x, y, strict=True), labels, strict=True):
        note = axes.annotate(
            text,
            place,
            xytext=(0, 0),
            textcoords="offset points",
            fontsize="x-small",
            color=TEXT,
            in_layout=False,
        )
        boxes: list[Any] = []
        for (dx, dy), (across, up) in LABEL_PLACES.items():
            note.set(position=(dx, dy), ha=across, va=up)
            box = note.get_window_extent()
            covers = sum(box.overlaps(other) for other in taken) + 2 * (box.x1 > axes.bbox.x1)
            boxes.append((covers, len(boxes), box, (dx, dy), across, up))
        _, _, box, offset, across, up = min(boxes, key=lambda found: found[:2])
        note.set(position=offset, ha=across, va=up)
        taken.append(box)
