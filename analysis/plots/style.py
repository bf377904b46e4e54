"""What the figures share: seaborn's look, colours that the colour-blind can tell apart, short numbers."""

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
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox
from scipy import stats

from analysis.stats import CONFIDENCE
from analysis.text import count
from condense_core.config import GROUPINGS

COLOURS = sns.color_palette("colorblind", 5)
PALETTE: dict[str, Any] = dict(zip(GROUPINGS, [*COLOURS[:3], COLOURS[4], "0.3"], strict=True))
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), "-.", (2, (2, 5)), ":")
MARKERS: dict[str, str] = dict(zip(GROUPINGS, "osDv^", strict=True))
LABELS = {"none": "none (dense)"}
TITLES = {
    "growth": "Growth",
    "connectivity": "Connectivity",
    "groups": "Groups",
    "condense_factor": "Condense factor",
    "group_lasso": "Group lasso",
    "pruning": "Pruning",
    "criterion": "Criterion",
}
TEXT = "#262626"  # seaborn's; the report turns it light on a dark page
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
}  # offset in points from what is labelled: alignment
LONGEST_NAME = 48
LOG_RANGE, NARROW = 3, 1.2  # most / least: above it an axis is logarithmic, below it starts at 0
GREY, FAINT = "#808080", "#d9d9d9"

_SETTINGS: Any = {
    "svg.hashsalt": "condense",
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib brings it: the same figure everywhere
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "axes.facecolor": "none",
    "text.parse_math": False,  # a name may hold dollar signs
    "text.usetex": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Seaborn's look for the figures drawn inside, and nowhere else."""
    with sns.axes_style("ticks"), sns.plotting_context("paper", font_scale=1.1), mpl.rc_context(_SETTINGS):
        yield


COUNTS = FuncFormatter(lambda value, _: count(value))


def interval_arms(part: pd.DataFrame) -> np.ndarray:
    """Arms of each mean error's 95 % t interval, within 0 to 100 %; 0 for a single run: (2, n)."""
    n, mean = part.n.to_numpy(float), part.error_mean.to_numpy(float)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, np.maximum(n - 1, 1))
    half = np.where(n > 1, quantile * part.error_sd.fillna(0) / np.sqrt(np.maximum(n, 1)), 0)
    return np.vstack([np.minimum(half, mean), np.minimum(half, 100 - mean)])


def series_looks(names: list[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each series: groupings always look the same, others take them in turn."""
    if set(names) <= set(GROUPINGS):
        return {name: {"color": PALETTE[name], "marker": MARKERS[name]} for name in names}
    colours = sns.color_palette("colorblind", len(names)) if len(names) <= 10 else sns.husl_palette(len(names))
    return {
        name: {"color": colour, "marker": "osDv^P*X<>"[place % 10]}
        for place, (name, colour) in enumerate(zip(names, colours, strict=True))
    }


def cost_axis(axes: Axes, label: str, values: pd.Series) -> None:
    """Name the axis of a cost, and make it logarithmic where its range asks for that."""
    axes.set_xlabel(label)
    if len(values) and values.max() > LOG_RANGE * values.min():
        axes.set_xscale("log")
        decades = np.log10(values.max() / values.min())
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.6 else (1,)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif len(values) and values.max() < NARROW * values.min():  # a narrow axis would make much of equal costs
        axes.set_xlim(0, 2 * values.max())
    axes.xaxis.set_major_formatter(COUNTS)


def legend_beside(axes: Axes, **settings: Any) -> None:
    """The legend on the right of the axes, where it hides nothing."""
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), **settings)
    for text in legend.get_texts():  # a name that is too long would leave the axes no room
        if len(text.get_text()) > LONGEST_NAME:
            text.set_text(f"{text.get_text()[: LONGEST_NAME - 1]}…")


def heat() -> Colormap:
    """Perceptually even; grey where there is nothing."""
    return mpl.colormaps["viridis"].with_extremes(bad=FAINT)


def thinned(labels: Sequence[str], most: int = 12) -> tuple[range, list[str]]:
    """Places and texts of at most about `most` ticks."""
    every = max(1, -(-len(labels) // most))
    return range(0, len(labels), every), list(labels[::every])


def one_run(frame: pd.DataFrame) -> None:
    """Raise ValueError for a frame of several runs, of which a figure would make a mixture."""
    if "run" in frame and frame.run.nunique() > 1:
        raise ValueError(f"run: the frame has {frame.run.nunique()} runs, and this figure shows one; choose it")


def stage_title(stage: str) -> str:
    """'stage 2' or 'at the end'."""
    return "at the end" if stage == "end" else f"stage {stage}"


def label_points(axes: Axes, x: Sequence[float], y: Sequence[float], labels: Sequence[str]) -> None:
    """A small label beside each point, on whichever side it covers no point and no other label."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # places are known once the layout is
    figure.set_layout_engine("none")  # and stay as they are
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
