"""Ranks of connections over time: a case made by hand, and those of trained runs."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import frames, plots
from analysis.frames.ranks import calls
from condense_core.store import Run

IMPORTANCE = np.array(
    [
        [[1.0, 2.0, 3.0, 4.0]],  # at the start, where nothing is dropped
        [[4.0, 3.0, 2.0, 1.0]],  # before stage 1, which drops the last input
        [[4.0, 2.0, 2.5, 0.0]],  # before stage 2, which drops the second one
        [[4.0, 0.0, 3.0, 0.0]],  # at the end
    ]
)
ALIVE = np.array([[[1, 1, 1, 1]], [[1, 1, 1, 0]], [[1, 0, 1, 0]], [[1, 0, 1, 0]]], bool)


@pytest.fixture(scope="module")
def run(small_store) -> Run:
    runs = frames.study_runs(small_store, "small")
    return small_store.named(runs[runs.grouping == "learned"].run.iloc[0])


def test_a_case_made_by_hand_has_the_ranks_and_margins_that_one_counts():
    rank, margin = calls(ALIVE, IMPORTANCE)
    assert rank.tolist() == [[1, 3, 2, 4]]
    assert margin.tolist() == [[pytest.approx(4 / 2.5 - 1), pytest.approx(2 / 2.5 - 1), 0.0, -0.5]]


def test_without_a_pruning_step_there_is_no_margin():
    rank, margin = calls(np.ones((2, 1, 4), bool), IMPORTANCE[:2])
    assert rank.tolist() == [[1, 2, 3, 4]]
    assert np.isnan(margin).all()


def test_what_never_was_alive_has_no_rank():
    alive = np.array([[[1, 1, 0]], [[1, 0, 0]]], bool)
    rank, margin = calls(alive, np.array([[[3.0, 2.0, 1.0]], [[3.0, 2.0, 0.0]]]))
    assert rank.tolist() == [[1, 2, 0]]
    assert np.isnan(margin[0, 2])


def test_by_the_papers_criterion_the_lowest_ranks_die_and_margins_say_so(run):
    channels = frames.channels(run)
    assert (channels.margin[channels.died > 0] <= 0).all()
    assert (channels.margin[channels.died == -1] >= 0).all()
    survivors = channels[channels.died == -1].groupby(["target", "group"])["rank"]
    assert (survivors.max() == survivors.count()).all()


def test_ranks_are_whole_at_every_moment_and_end_where_a_connection_is_pruned(run):
    ranks = frames.ranks(run)
    assert sorted(set(ranks.epoch)) == sorted({*(record["epoch"] for record in run.stages()), *range(1, 5)})
    for _, part in ranks.groupby(["target", "group", "epoch"]):
        assert sorted(part["rank"]) == list(range(1, len(part) + 1))
    starts = {record["stage"]: record["epoch"] for record in run.stages()}
    last = ranks.groupby(["target", "group", "channel"])[["epoch"]].max()
    fates = frames.channels(run).set_index(["target", "group", "channel"]).died
    ends = fates.map(lambda stage: starts[None if stage == -1 else stage])
    assert (last.epoch == ends.loc[last.index]).all()


def test_a_layer_that_a_run_does_not_have_is_named(run):
    assert set(frames.ranks(run, "1.2").target) == {"1.2"}
    with pytest.raises(ValueError, match=r"target '9.9': run .* has 1.1, "):
        frames.ranks(run, "9.9")


def test_the_figure_shows_a_line_for_each_input_of_a_group(run):
    ranks = frames.ranks(run, "1.2")
    group = ranks[ranks.group == 1]
    lines = [line for line in plots.ranks(group).axes[0].lines if len(line.get_xdata()) > 1]
    shown = sorted(tuple(line.get_ydata()) for line in lines[:-1])  # the last one is the number of inputs
    assert shown == sorted(tuple(part["rank"]) for _, part in group.groupby("channel"))
    with pytest.raises(ValueError, match="group: the frame has 4, but this figure shows one"):
        plots.ranks(ranks)
