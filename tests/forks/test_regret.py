"""Regret: how many of the connections that a stage dropped would have been kept later."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.readable import check_readable
from helpers.runs import small_run

import analysis
from analysis import frames, plots, stats
from analysis.engines.single_run import execute
from analysis.frames.regret import highest, regretted
from analysis.reporting import StudyReport, render
from analysis.studies import forks_name, join_forks
from condense_core.store import RunStore


@pytest.fixture(scope="module")
def forked(tmp_path_factory) -> tuple[RunStore, str]:
    """Two seeds of a run, with forks that skip each stage, and forks that prune at random from stage 2 on."""
    store = RunStore(tmp_path_factory.mktemp("regret") / "runs")
    store.create()
    for seed in (0, 1):
        execute(small_run(seed), store, Path("data"))
        run = store.run(small_run(seed))
        decisions = [(1, {"skip_pruning": True}), (3, {"skip_pruning": True})]
        decisions += [(2, {"skip_pruning": True}), (2, {"criterion": "random"})]
        forks = [analysis.train_fork(run, stage, **changes) for stage, changes in decisions]
        join_forks(store, forks_name(run.config), [(run.config, fork.config) for fork in forks])
    return store, forks_name(small_run())


@pytest.fixture(scope="module")
def counts(forked) -> pd.DataFrame:
    return frames.regret(forked[0])


def test_a_hand_made_case():
    alive = np.array([[True, True, True, True, False], [True, True, False, True, True]])
    after = np.array([[True, True, False, False, False], [True, True, False, False, False]])
    kept = np.array([[True, False, True, False, False], [False, False, False, True, True]])
    dropped, returned, expected = regretted(alive, after, kept)
    assert dropped == 4  # inputs 2 and 3 of the first group, 3 and 4 of the second
    assert returned == 3  # input 2 of the first, both of the second
    assert expected == 2 * 2 / 4 + 2 * 2 / 4  # 2 of 4 live inputs are kept in each group


def test_nothing_is_regretted_if_what_was_dropped_stays_out_and_all_if_it_comes_back():
    alive, after = np.ones((2, 4), bool), np.array([[True, True, False, False]] * 2)
    assert regretted(alive, after, after)[1] == 0
    assert regretted(alive, after, ~after)[:2] == (4, 4)


def test_the_highest_are_taken_of_the_live_ones_alone():
    importance = np.array([[5.0, 4.0, 3.0, 9.0], [1.0, 2.0, 3.0, 4.0]])
    alive = np.array([[True, True, True, False], [True, True, True, True]])
    chosen = highest(importance, alive, np.array([2, 1]))
    assert chosen.tolist() == [[True, True, False, False], [False, False, False, True]]


def test_every_fork_that_skipped_a_stage_has_its_later_moments(forked, counts):
    assert set(zip(counts.stage, counts.moment, strict=True)) == {
        *(("1", "next"), ("1", "end"), ("2", "next"), ("2", "end"), ("3", "end")),
    }
    assert counts.run.nunique() == 6
    runs = frames.runs(forked[0]).set_index("run")
    assert set(counts.parent) == {run for run in runs.index if pd.isna(runs.parent[run])}
    assert (counts.returned <= counts.dropped).all()


def test_the_dropped_connections_are_those_of_the_parents_step(forked, counts):
    parent = forked[0].run(small_run())
    arrays = [parent.stage_arrays(record) for record in parent.stages()]
    rows = counts[(counts.parent == parent.name) & (counts.moment == "end")]
    for stage in (1, 2, 3):
        layers = [layer.module for layer in frames.reading_layers(parent.config.model)]
        fell = [
            arrays[stage - 1][f"mask.{name}"].sum() - arrays[stage][f"mask.{name}"].sum() for name in layers
        ]
        assert rows[rows.stage == str(stage)].sort_values("target_position").dropped.tolist() == fell


def test_the_cost_is_the_error_of_the_parent_less_that_of_the_fork(forked, counts):
    errors = frames.runs(forked[0]).set_index("run").test_error_percent
    for row in counts.itertuples():
        assert row.cost == pytest.approx(errors[row.parent] - errors[row.run])
    assert counts.random_cost.notna().tolist() == (counts.stage == "2").tolist()


def test_shares_and_costs_have_intervals_over_the_seeds():
    """Two layers of three seeds: of 20 dropped connections 4, 6 and 8 return."""
    rows = [
        {"run": f"r{seed}", "stage": "2", "moment": "end", "target": target, "dropped": 10, "expected": 5.0}
        | {"returned": 2 + seed, "cost": [0.5, 1.0, 1.5][seed], "random_cost": np.nan if seed else 3.0}
        for seed in range(3)
        for target in ("1.1", "1.2")
    ]
    [share] = stats.regrets(pd.DataFrame(rows)).itertuples()
    assert (share.share, share.chance, share.runs) == (pytest.approx(0.3), 0.5, 3)
    assert share.share_high - share.share == pytest.approx(4.303 * 0.1 / np.sqrt(3), rel=1e-3)
    assert stats.regrets(pd.DataFrame(rows), "target").target.tolist() == ["1.1", "1.2"]
    [cost] = stats.regret_costs(pd.DataFrame(rows)).itertuples()
    assert (cost.cost, cost.random_cost, cost.runs) == (1.0, 3.0, 3)
    assert np.isnan(cost.random_cost_low)
    assert cost.cost_low == pytest.approx(1 - 4.303 * 0.5 / np.sqrt(3), rel=1e-3)


def test_a_share_stays_within_0_and_1():
    rows = [
        {"run": f"r{seed}", "stage": "1", "moment": "next", "dropped": 10, "returned": seed, "expected": 1.0}
        for seed in range(2)
    ]
    [share] = stats.regrets(pd.DataFrame(rows)).itertuples()
    assert (share.share_low, share.share_high) == (0, pytest.approx(0.05 + 12.706 * 0.05, rel=1e-3))


def test_random_dropping_is_regretted_as_often_as_by_chance():
    draws, found = np.random.default_rng(0), []
    for _ in range(200):
        alive = np.ones((4, 16), bool)
        after, kept = (highest(draws.random((4, 16)), alive, np.full(4, 8)) for _ in range(2))
        dropped, returned, expected = regretted(alive, after, kept)
        found.append((returned - expected) / dropped)
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_the_report_shows_regret_only_where_there_are_such_forks(forked, undrawn):
    store, name = forked
    figures = {figure.key: figure for figure in StudyReport(store, name).figures}
    assert "Of the connections dropped at stage 3" in figures["regret"].alt
    assert "Regret" in render([StudyReport(store, name)])
    join_forks(store, "plain", [(small_run(), store.run(small_run()).fork(2, criterion="random"))])
    assert "regret" not in {figure.key for figure in StudyReport(store, "plain").figures}


def test_a_fork_without_its_parent_is_left_out_with_a_warning(forked, tmp_path):
    alone = RunStore(shutil.copytree(forked[0].root, tmp_path / "runs"))
    shutil.rmtree(alone.run(small_run()).folder)
    with pytest.warns(match="left out: parent .* is not in"):
        assert set(frames.regret(alone).parent) == {small_run(1).name}


def test_the_figure_has_a_panel_for_stages_layers_and_costs(counts):
    figure = plots.regret(counts)
    assert len(figure.axes) == 3
    check_readable(figure, "regret")


@pytest.mark.parametrize("stage", ["1", "2", "3"])
def test_forks_of_one_stage_alone_are_drawn_too(counts, stage):
    part = counts[counts.stage == stage]
    figure = plots.regret(part)
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == [stage]
    assert plots.regret(part[part.run == part.run.iloc[0]]).axes
