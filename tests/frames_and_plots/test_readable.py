"""Figures can be read on a phone: no text is too small, cut off, or covers another."""

from __future__ import annotations

import pandas as pd
import pytest
from helpers.readable import check_readable
from helpers.runs import BENCHMARK

from analysis import frames, plots, stats
from analysis.plots.style import WIDTH
from analysis.reporting.figures import report_figures


@pytest.fixture(scope="module")
def runs(small_store) -> pd.DataFrame:
    return frames.study_runs(small_store, "small")


@pytest.fixture(scope="module")
def crowded(runs) -> pd.DataFrame:
    """Runs of grouping × growth × connectivity with four groupings: 16 variants, sizes and a dense one."""
    own = runs[runs.grouping == "random"].replace("random", "independent")
    own = own.assign(variant=own.variant.str.replace("random", "independent"))
    return pd.concat([runs, own.assign(run=own.run + "-copy")], ignore_index=True)


def test_every_figure_of_a_report_can_be_read_on_a_phone(small_store, runs):
    found = report_figures(small_store, runs, stats.summary(runs), stats.comparisons(runs))
    assert len(found) == 16
    for picture in found:
        assert picture.figure.get_figwidth() == pytest.approx(WIDTH), picture.key
        check_readable(picture.figure, picture.key)


def test_figures_of_sixteen_variants_can_be_read(crowded):
    summary, compared = stats.summary(crowded), stats.comparisons(crowded)
    effects, interactions = (stats.of_kind(compared, kind) for kind in (stats.MAIN, stats.INTERACTION))
    assert (summary.role.isin(["base", "grid"])).sum() == 16
    check_readable(plots.effects(effects, interactions, stats.effects_by_seed(crowded)), "effects")
    check_readable(plots.interactions(summary), "interactions")
    check_readable(plots.equal_cost(summary), "grid")
    published = frames.published("CIFAR-10")
    check_readable(plots.tradeoff(summary, "macs", published, beside=True), "tradeoff")
    check_readable(plots.tradeoff(summary, "params"), "tradeoff-params")


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
    check_readable(plots.time_against_macs(pd.DataFrame(rows)), "time")
    parts = [{**row, "execution": name} for row in BENCHMARK["parts"] for name in names]
    check_readable(plots.waterfall(pd.DataFrame(parts)), "waterfall")
