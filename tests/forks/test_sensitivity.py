"""What pruning each layer alone costs, and how much of a pruning step is the batch norms' statistics."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch
from helpers.readable import check_readable
from helpers.runs import small_run

from analysis import frames, plots
from analysis.engines.single_run import execute
from analysis.layer_sensitivity import (
    kept_sensitivity,
    layer_sensitivity,
    statistics_at_steps,
)
from analysis.networks import load_run_at
from analysis.reporting.learned_figures import sensitivity
from analysis.reporting.report_figure import StudyData


@pytest.fixture
def run(store, tmp_path):
    config = small_run()
    assert execute(config, store, tmp_path).state == "done"
    return store.run(config)


def test_nothing_pruned_gives_the_runs_own_error(run, tmp_path):
    found = layer_sensitivity(run, tmp_path)
    before = next(record for record in run.stages() if record["stage"] == 1)["before"]
    unpruned = found[found.share == 0]
    assert len(unpruned) == found.target.nunique() > 1
    for column in ("error_percent", "loss"):
        assert list(unpruned[column]) == pytest.approx([before[column]] * len(unpruned), rel=1e-5)
    assert all(own.is_monotonic_decreasing for _, own in found.groupby("target").alive)


def test_each_step_has_the_runs_own_errors_and_those_with_statistics_anew(run, tmp_path):
    steps = statistics_at_steps(run, tmp_path)
    records = [record for record in run.stages() if record["stage"]]
    assert list(steps.stage) == [str(record["stage"]) for record in records]
    for row, record in zip(steps.itertuples(), records, strict=True):
        assert row.error_before == pytest.approx(record["before"]["error_percent"])
        assert row.error_after == pytest.approx(record["after"]["error_percent"])
    assert (steps.error_after_anew != steps.error_after).any()


def test_what_was_taken_is_kept_and_read_without_the_networks_state(run, tmp_path):
    layers, steps = kept_sensitivity(run, tmp_path)
    shutil.rmtree(run.folder / "checkpoints")
    again = kept_sensitivity(run, tmp_path)
    pd.testing.assert_frame_equal(layers, again[0])
    pd.testing.assert_frame_equal(steps, again[1])


def test_the_report_shows_what_a_run_of_the_study_keeps(run, store, tmp_path):
    data = StudyData(store, frames.runs(store), pd.DataFrame(), pd.DataFrame())
    assert not list(sensitivity(data))
    _, steps = kept_sensitivity(run, tmp_path)
    curves, stale = sensitivity(data)
    rise = steps.error_after_anew.iloc[0] - steps.error_before_anew.iloc[0]
    assert f"with statistics taken anew by {rise:+z.1f}" in stale.alt
    assert "alone may lose" in curves.alt
    for figure in (curves, stale):
        check_readable(figure.figure, figure.key)


def test_the_network_before_a_step_is_not_pruned_for_it(run):
    assert all(own.all() for name, own in load_run_at(run, 1).state_dict().items() if name.endswith("mask"))


def test_a_share_is_allowed_up_to_the_first_that_costs_more():
    errors = {"a": [5.0, 5.5, 7.0, 5.0], "b": [5.0, 4.0, 5.9, 6.5]}
    rows = [
        {"target": target, "share": place / 4, "error_percent_anew": error}
        for target, own in errors.items()
        for place, error in enumerate(own)
    ]
    found = frames.allowed_shares(pd.DataFrame(rows), tolerance=1.0)
    assert found.to_dict("records") == [
        {"target": "b", "share": 0.5, "cost": pytest.approx(0.9)},
        {"target": "a", "share": 0.25, "cost": pytest.approx(0.5)},
    ]


def test_a_run_without_learned_groups_is_refused_by_name(store, tmp_path):
    config = small_run(grouping="random")
    execute(config, store, tmp_path)
    with pytest.raises(ValueError, match="no layer learns its groups"):
        layer_sensitivity(store.run(config), tmp_path)


def test_the_command_prints_both_tables_and_writes_the_curves(run, store, tmp_path):
    folders = "--runs", str(store.root), "--reports", str(tmp_path / "reports"), "--data-dir", str(tmp_path)
    call = [sys.executable, "-m", "analysis.sensitivity", run.name, "--images", "50", "--json", *folders]
    said = json.loads(subprocess.run(call, capture_output=True, text=True, check=True).stdout)
    written = tmp_path / "reports" / f"sensitivity-{run.name}"
    found = pd.read_csv(written / "sensitivity.csv", dtype={"target": str})
    assert {row["target"] for row in said["layers"]} == set(found.target)
    assert [row["stage"] for row in said["steps"]] == ["1", "2", "3"]
    assert (written / "sensitivity.svg").stat().st_size > 1000
    figure = plots.sensitivity(found)
    assert len(figure.axes) == 2
    check_readable(figure, "sensitivity")
    assert torch.tensor(found.share.unique()).tolist() == [part / 8 for part in range(8)]
