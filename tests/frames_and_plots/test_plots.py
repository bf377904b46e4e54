"""Every figure shows the values of its frame; the tests check plotted values, not pixels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import frames, plots, stats
from analysis.networks import PUBLISHED
from analysis.plots.cost import cost_parts
from analysis.plots.style import interval_arms
from analysis.reporting.figures import report_figures
from analysis.reporting.report_figure import learned_runs
from condense_core import cost_table
from condense_core.store import Run


@pytest.fixture(scope="module")
def runs(small_store) -> pd.DataFrame:
    return frames.study_runs(small_store, "small")


@pytest.fixture(scope="module")
def summary(runs) -> pd.DataFrame:
    return stats.summary(runs)


@pytest.fixture(scope="module")
def base(small_store, runs) -> Run:
    return Run(small_store.root / runs.run.iloc[0])


def offsets(axes) -> np.ndarray:
    """Return the markers of all lines on some axes, without the caps of intervals: (n, 2)."""
    lines = [line for line in axes.lines if str(line.get_marker()) in "osDv^P*X<>h"]
    return np.vstack([np.column_stack(line.get_data()) for line in lines])


def test_every_frame_has_the_columns_that_are_documented(small_store, base):
    names = ("runs", "epochs", "outcomes", "stages", "steps", "connections", "channels", "decided", "layers")
    for name in names:
        frame = getattr(frames, name)(small_store if name == "runs" else base)
        assert len(frame), name
        assert list(frame.columns) == list(frames.COLUMNS[name]), name
    for name in ("epochs", "outcomes", "connections"):
        assert list(getattr(frames, name)([]).columns) == list(frames.COLUMNS[name])


def test_the_outcomes_of_every_run_give_its_error_again(small_store):
    outcomes, runs = frames.outcomes(small_store), frames.runs(small_store).set_index("run")
    done = runs[runs.state == "done"].test_error_percent
    again = 100 * (1 - outcomes.groupby("run").correct.mean())
    assert again.to_dict() == pytest.approx(done.to_dict())
    assert (outcomes.groupby("run").image.nunique() == runs.test_images[done.index]).all()
    assert set(frames.outcomes(small_store, "validation").split) == {"validation"}


def test_frames_take_a_folder_a_store_or_runs(small_store, base):
    assert frames.runs(small_store).equals(frames.runs(small_store.root))
    assert frames.runs(str(small_store.root)).equals(frames.runs(small_store.runs()))
    assert frames.epochs(base).equals(frames.epochs([base]))
    with pytest.raises(FileNotFoundError, match="no run store"):
        frames.runs(small_store.root / "studies")


def test_the_heat_map_shows_the_frame(base):
    connections = frames.connections(base)
    for value in ("alive", "mean_weight"):
        figure = plots.pruned_connections(connections, value)
        panels = [axes for axes in figure.axes if axes.images]
        assert [axes.get_title() for axes in panels] == [
            "stage 0",
            "stage 1",
            "stage 2",
            "stage 3",
            "at the end",
        ]
        shown = panels[2].images[0].get_array()
        part = connections[(connections.stage == "2") & (connections.target == "2.1")]
        assert shown[:, 2].compressed().tolist() == pytest.approx(part[value].tolist())  # targets 1.1, 1.2, 2.1


def test_one_layer_in_full_shows_every_mask_and_death(base):
    channels = frames.channels(base, "3.1")
    above, below = [axes for axes in plots.layer_connections(channels).axes if axes.images]
    alive = channels.pivot_table(index="group", columns="channel", values="died") == -1
    assert ((above.images[0].get_array() > 0) == alive.to_numpy()).all()
    stages = base.stages()
    mask = base.stage_tensors(stages[-1])["mask.blocks.block3.0.conv1"].numpy()
    assert (alive.to_numpy() == mask).all()
    for record in stages[1:-1]:
        mask = base.stage_tensors(record)["mask.blocks.block3.0.conv1"].numpy()
        died = channels.pivot_table(index="group", columns="channel", values="died").to_numpy()
        assert (mask == ((died == -1) | (died > record["stage"]))).all()
    assert len(np.unique(below.images[0].get_array())) == len(channels.died.unique())


@pytest.mark.parametrize("cost", ["macs", "flops_paper", "params"])
def test_the_tradeoff_shows_every_variant_with_its_interval(summary, cost):
    axes = plots.tradeoff(summary, cost).axes[0]
    shown = offsets(axes)
    assert len(shown) == len(summary)
    for row in summary.itertuples():
        near = np.isclose(shown[:, 1], row.error_mean) & (abs(shown[:, 0] / getattr(row, cost) - 1) < 0.2)
        assert near.any(), row.variant
    bars = [segment for collection in axes.collections for segment in collection.get_segments()]
    lows = sorted(segment[:, 1].min() for segment in bars)
    arms = interval_arms(summary)
    assert lows == pytest.approx(sorted((summary.error_mean - arms[0]).tolist()))


def test_published_points_stand_on_our_axes_as_printed(summary):
    points = frames.published("CIFAR-10")
    printed = {
        (row.flops * 1e6, row.error_percent) for row in PUBLISHED if row.data == "CIFAR-10" and row.flops
    }
    shown = {tuple(row) for row in offsets(plots.tradeoff(summary, "flops_paper", points).axes[0]).tolist()}
    assert printed <= shown
    figure = plots.tradeoff(summary, "macs", points, beside=True)
    ours, theirs = figure.axes
    assert printed == {tuple(row) for row in offsets(theirs).tolist()}
    assert not printed & {tuple(row) for row in offsets(ours).tolist()}
    known = {str(part.get_label()) for part in theirs.get_legend_handles_labels()[0]}
    assert known <= {text.get_text() for text in figure.legends[0].get_texts()}
    assert all("(published)" in label for label in known)


def test_a_runs_life_shows_its_epochs(base):
    epochs, stages = frames.epochs(base), frames.stages(base)
    loss, accuracy, rate, macs = plots.run_life(epochs, stages).axes
    assert loss.lines[1].get_ydata().tolist() == epochs.curve_loss.tolist()
    assert accuracy.lines[1].get_ydata().tolist() == (100 - epochs.curve_error_percent).tolist()
    assert rate.lines[0].get_ydata().tolist() == epochs.learning_rate.tolist()
    assert macs.lines[0].get_ydata().tolist() == stages.macs.tolist()


def test_every_pruning_step_has_its_drop_and_recovery(base):
    steps = frames.steps(base)
    records = base.stages()[1:4]
    assert steps.stage.tolist() == ["1", "2", "3"]
    assert steps.error_before.tolist() == [record["before"]["error_percent"] for record in records]
    assert steps.error_after.tolist() == [record["after"]["error_percent"] for record in records]
    errors = [row["curve_error_percent"] for row in base.epochs()]
    assert steps.error_recovered.iloc[-1] == min(errors[2:])
    shown = offsets(plots.pruning_steps(steps).axes[0])[:, 1]
    columns = ["error_before", "error_after", "error_recovered"]
    assert sorted(shown) == pytest.approx(sorted(steps[columns].to_numpy(float).ravel()), nan_ok=True)


def test_where_the_cost_is_adds_up_to_the_network(base):
    layers = frames.layers(base)
    parts = cost_parts(layers)
    left = parts[~parts.part.str.startswith("pruned")].macs.sum()
    assert left == cost_table(base.config.model).macs
    assert parts.macs.sum() == cost_table(base.config.model, 0).macs
    by_layer, by_block = plots.cost_by_layer(layers).axes
    for axes in (by_layer, by_block):
        assert sum(patch.get_height() for patch in axes.patches) == pytest.approx(parts.macs.sum())
    assert layers[layers.stage == "1"].params.sum() == base.stages()[1]["params"]


def test_effects_and_interactions_show_their_frames(runs, summary):
    effects, interactions = stats.effects(runs), stats.interactions(runs)
    main, other = plots.effects(effects, interactions, stats.effects_by_seed(runs)).axes
    assert offsets(main)[:, 0].tolist() == pytest.approx(effects.difference.tolist())
    assert offsets(other)[:, 0].tolist() == pytest.approx(interactions.difference.tolist())
    panels = plots.interactions(summary).axes
    assert len(panels) == 3
    grid = summary[summary.role.isin(["base", "grid"])]
    cell = grid[(grid.grouping == "random") & (grid.growth == "constant")].error_mean.mean()
    assert np.isclose(offsets(panels[0])[:, 1], cell).any()


def test_seeds_of_an_effect_average_to_it(runs):
    effects, by_seed = stats.effects(runs), stats.effects_by_seed(runs)
    means = by_seed.groupby(["factor", "level", "against"]).difference.mean()
    for row in effects.itertuples():
        assert means[row.factor, row.level, row.against] == pytest.approx(row.difference)


def test_shares_by_distance_are_those_of_all_connections(small_store, runs):
    chosen = learned_runs(runs)
    chosen = chosen[chosen.role.isin(["base", "grid"])]
    connections = frames.connections([Run(small_store.root / name) for name in chosen.run])
    connections = connections.merge(chosen[["run", "growth", "connectivity"]], on="run")
    growth, connectivity = plots.sources_read(connections).axes
    held = connections[(connections.stage == "end") & (connections.connectivity == "full")]
    nearest = held[(held.growth == "exponential") & (held.distance == 1)]
    expected = (nearest.alive * nearest.connections).sum() / nearest.connections.sum()
    assert growth.lines[0].get_ydata()[0] == pytest.approx(expected)
    assert max(connectivity.lines[1].get_xdata()) <= 3  # block: layers before a transition cannot be read


def test_time_against_macs_shows_medians():
    times = pd.DataFrame(
        {
            "model": ["a", "b"],
            "execution": ["dense", "condensed"],
            "macs": [1e6, 1e8],
            "milliseconds": [2.0, 30.0],
            "low": [1.9, 29.0],
            "high": [2.2, 33.0],
        }
    )
    shown = offsets(plots.time_against_macs(times).axes[0])
    assert sorted(shown.tolist()) == [[1e6, 2.0], [1e8, 30.0]]


def test_figures_leave_matplotlibs_settings_alone(summary):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    assert isinstance(plots.equal_cost(summary), Figure)
    assert dict(mpl.rcParams) == before


def test_every_picture_states_its_finding_and_has_its_data(small_store, runs, summary):
    found = report_figures(small_store, runs, summary, stats.comparisons(runs))
    keys = [picture.key for picture in found]
    assert keys == [
        "effects", "interactions", "tradeoff", "tradeoff-params", "connections-alive",
        "connections-mean-weight", "layer", "sources", "decided", "agreement", "ranks", "grid",
        "life", "steps", "macs", "cost",
    ]  # fmt: skip
    for picture in found:
        assert len(picture.alt) > 30, picture.key
        assert any(character.isdigit() for character in picture.alt), picture.key
        assert len(picture.data), picture.key
        assert picture.svg.startswith("<?xml")
