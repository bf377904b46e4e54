"""Figures can be read on a phone: no text is too small, cut off, or covers another."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd
import pytest
from helpers.runs import BENCHMARK
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis import frames, plots, stats
from analysis.plots.style import WIDTH
from analysis.reporting.figures import report_figures

PHONE = 388  # pixels of a phone of 420 between the margins of the page
SMALLEST = 8  # pixels of a text on it


@pytest.fixture(scope="module")
def runs(small_store) -> pd.DataFrame:
    return frames.study_runs(small_store, "small")


@pytest.fixture(scope="module")
def crowded(runs) -> pd.DataFrame:
    """Runs of grouping × growth × connectivity with four groupings: 16 variants, sizes and a dense one."""
    own = runs[runs.grouping == "random"].replace("random", "independent")
    own = own.assign(variant=own.variant.str.replace("random", "independent"))
    return pd.concat([runs, own.assign(run=own.run + "-copy")], ignore_index=True)


def check(figure: Figure, name: str) -> None:
    """Fail if a text of a figure is too small on a phone, cut off, or covers its neighbour on an axis."""
    figure.draw_without_rendering()
    ticks = {text for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in texts_of(axis)}
    shown = min(1.0, PHONE / (96 * figure.get_figwidth()))
    for text in figure.findobj(Text):
        if not text.get_visible() or not text.get_text() or text.get_window_extent().width == 0:
            continue
        said = f"{name}: {text.get_text()!r}"
        assert text.get_fontsize() / 72 * 96 * shown >= SMALLEST, f"{said} is too small"
        box = text.get_window_extent()
        if text not in ticks:  # some of these are outside and not drawn
            assert box.x0 >= -2, f"{said} is cut off on the left"
            assert box.x1 <= figure.bbox.x1 + 2, f"{said} is cut off on the right"
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.get_xticklabels() if text.get_text()]
        rotated = any(text.get_rotation() for text in axes.get_xticklabels())
        if axes.get_visible() and not rotated and axes.xaxis.get_visible():
            assert not any(one.x1 > two.x0 + 1 for one, two in pairwise(boxes)), f"{name}: ticks overlap"


def texts_of(axis: Axis) -> list[Text]:
    return axis.get_ticklabels(which="both")


def test_every_figure_of_a_report_can_be_read_on_a_phone(small_store, runs):
    found = report_figures(small_store, runs, stats.summary(runs), stats.comparisons(runs))
    assert len(found) == 16
    for picture in found:
        assert picture.figure.get_figwidth() == pytest.approx(WIDTH), picture.key
        check(picture.figure, picture.key)


def test_figures_of_sixteen_variants_can_be_read(crowded):
    summary, compared = stats.summary(crowded), stats.comparisons(crowded)
    effects, interactions = (stats.of_kind(compared, kind) for kind in (stats.MAIN, stats.INTERACTION))
    assert (summary.role.isin(["base", "grid"])).sum() == 16
    check(plots.effects(effects, interactions, stats.effects_by_seed(crowded)), "effects")
    check(plots.interactions(summary), "interactions")
    check(plots.equal_cost(summary), "grid")
    published = frames.published("CIFAR-10")
    check(plots.tradeoff(summary, "macs", published, beside=True), "tradeoff")
    check(plots.tradeoff(summary, "params"), "tradeoff-params")


def test_figures_of_measured_times_can_be_read():
    names = ("torch, dense", "OpenVINO, dense", "condensed by plan")
    rows = [
        {
            **row,
            "execution": name,
            "model": model,
            "macs": 1e7 * size,
            "milliseconds": size,
            "low": size,
            "high": size,
        }
        for row in BENCHMARK["times"]
        for name in names
        for size, model in ((1, "condensenet-50"), (2, "condensenet-86"))
    ]
    check(plots.time_against_macs(pd.DataFrame(rows)), "time")
    parts = [{**row, "execution": name} for row in BENCHMARK["parts"] for name in names]
    check(plots.waterfall(pd.DataFrame(parts)), "waterfall")
