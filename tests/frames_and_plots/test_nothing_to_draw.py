"""Every figure says in words that there is nothing to draw: no rows, nothing finished, one variant, NaN."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import frames, plots, stats
from analysis.explorer import explore
from analysis.reporting import StudyReport, render
from analysis.reporting.figures import report_figures
from condense_core.store import RunStore

DRAWN = {
    "agreement": ("agreement",),
    "budget": ("factors",),
    "decided": ("decided",),
    "tradeoff": ("summary",),
    "published": ("published",),
    "equal_cost": ("summary",),
    "effects": ("effects",),
    "interactions": ("summary",),
    "masks": ("effects", "summary"),
    "pruned_connections": ("connections",),
    "layer_connections": ("channels",),
    "ranks": ("ranks",),
    "series": ("summary",),
    "sources_read": ("connections",),
    "regret": ("regret",),
    "sensitivity": ("sensitivity",),
    "stale_statistics": ("statistics",),
    "run_life": ("epochs", "stages"),
    "pruning_steps": ("steps",),
    "macs_during_training": ("stages",),
    "cost_by_layer": ("layers",),
    "time_against_macs": ("times",),
    "waterfall": ("parts",),
}


def words(figure: Figure) -> str:
    """Return the text of a figure without axes."""
    figure.draw_without_rendering()
    assert not figure.axes
    return " ".join(text.get_text() for text in figure.texts)


def empty(name: str) -> pd.DataFrame:
    return frames.typed(name, pd.DataFrame())


def all_missing(name: str) -> pd.DataFrame:
    """Return two rows of numbers that are all NaN."""
    values = {
        column: [np.nan] * 2 if kind != "str" else ["0"] * 2 for column, kind in frames.TYPES[name].items()
    }
    return pd.DataFrame(values)


def test_every_figure_is_tested():
    figures = {name for name in plots.__all__ if getattr(plots, name).__doc__ and name.islower()}
    drawn = {name for name in figures if "Figure" in str(getattr(plots, name).__annotations__.get("return"))}
    assert drawn == DRAWN.keys()


@pytest.mark.parametrize("made", [empty, all_missing, lambda name: pd.DataFrame()])
@pytest.mark.parametrize("figure", DRAWN)
def test_a_figure_of_nothing_says_so(figure, made):
    first, *others = DRAWN[figure]
    assert words(getattr(plots, figure)(made(first), *map(empty, others))).endswith(".")


def test_a_figure_of_unfinished_runs_says_so(small_store):
    runs = frames.study_runs(small_store, "small").assign(state="running", test_error_percent=np.nan)
    summary = stats.summary(runs)
    for figure in (plots.tradeoff, plots.equal_cost, plots.interactions):
        assert words(figure(summary)) == "No variant has a finished run."
    assert (
        words(plots.tradeoff(summary, published=frames.published("CIFAR-10")))
        == "No variant has a finished run."
    )
    assert "two variants with finished runs are needed" in words(plots.effects(stats.effects(runs)))


def test_a_study_of_one_variant_has_no_effects_but_all_other_figures(small_store):
    runs = frames.study_runs(small_store, "small")
    one = runs[runs.role == "base"]
    effects, interactions, by_seed = stats.effects(one), stats.interactions(one), stats.effects_by_seed(one)
    assert "two variants" in words(plots.effects(effects, interactions, by_seed))
    assert "fewer than two factors" in words(plots.interactions(stats.summary(one)))
    assert plots.tradeoff(stats.summary(one)).axes
    assert plots.equal_cost(stats.summary(one)).axes
    keys = [
        figure.key for figure in report_figures(small_store, one, stats.summary(one), stats.comparisons(one))
    ]
    assert "effects" not in keys
    assert {"tradeoff", "life", "cost"} <= set(keys)
    single = one.head(1)
    assert report_figures(small_store, single, stats.summary(single), stats.comparisons(single))


def test_layers_of_the_end_alone_and_the_first_frame_by_name_are_drawn(small_store):
    layers = frames.layers(small_store.runs()[0])
    assert plots.cost_by_layer(layers=layers[layers.stage == "end"]).axes
    assert words(plots.cost_by_layer(layers=layers.head(0)))


def test_a_column_of_nan_beside_others_is_left_out(small_store):
    run = small_store.runs()[0]
    epochs = frames.epochs(run).assign(curve_loss=np.nan, curve_error_percent=np.nan)
    assert plots.run_life(epochs, frames.stages(run)).axes
    steps = frames.steps(run).assign(error_recovered=np.nan)
    assert plots.pruning_steps(steps).axes


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda of: plots.published(frames.published("CIFAR-10"), "macs"), "cost 'macs': must be one of flops"),
        (lambda of: plots.pruned_connections(of, "aliv"), "value 'aliv': must be one of alive, mean_weight"),
        (
            lambda of: plots.sources_read(of, ("growht",)),
            "column 'growht': is not in the frame, which has run,",
        ),
        (lambda of: plots.run_life(of, of), "column 'epoch': is not in the frame"),
    ],
)
def test_a_frame_or_value_that_does_not_fit_is_named(small_store, draw, message):
    with pytest.raises(ValueError, match=message):
        draw(frames.connections(small_store.runs()[0]))


def test_reports_and_explorers_of_nothing_are_made(small_store, tmp_path):
    store = RunStore(tmp_path / "runs")
    store.create()
    store.write_study("small", small_store.read_study("small"))
    report = StudyReport(store, "small")
    assert report_figures(store, report.runs, report.summary, report.compared) == []
    assert "small" in render([report])
    assert explore(store.root)
