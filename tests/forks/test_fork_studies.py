"""The axis `fork` of a study: every seed's base is the parent, and is trained first."""

from __future__ import annotations

import pandas as pd
import pytest
from helpers.runs import SMALL_STUDY

from analysis import Study, frames
from analysis.engines.single_run import execute
from analysis.findings import StudyFindings
from analysis.studies import plan, study_config
from analysis.studies.config import command
from condense_core.store import RunStore

FORKS = ("2:criterion=random", "3:skip-pruning", "1:group_lasso=0+condense_factor=8")


def forked_study(**settings) -> Study:
    terms = SMALL_STUDY | {"grouping": ("learned",), "sizes": (), "reference": False, "fork": FORKS}
    return Study.named("grouping", **terms | settings)


def test_a_study_with_forks_trains_each_after_its_base_and_compares_them(tmp_path):
    study = forked_study()
    runs = study.run(tmp_path / "runs", jobs=2)
    assert dict(runs.groupby("role").size()) == {"base": 2, "fork": 6}
    assert set(runs.state) == {"done"}
    bases = runs[runs.role == "base"].set_index("seed").run
    forks = runs[runs.role == "fork"]
    assert forks.parent.tolist() == [bases[seed] for seed in forks.seed]
    assert forks.fork.unique().tolist() == [
        *("2:criterion=random", "3:skip_pruning", "1:condense_factor=8+group_lasso=0.0"),
    ]
    found = StudyFindings(RunStore(tmp_path / "runs"), study.config.name)
    assert found.effects.factor.tolist() == ["fork"] * 3
    errors = runs.pivot(index="seed", columns="variant", values="test_error_percent")
    for effect, variant in zip(found.effects.itertuples(), forks.variant.unique(), strict=True):
        difference = errors[variant] - errors[runs[runs.role == "base"].variant.iloc[0]]
        assert effect.difference == pytest.approx(difference.mean())
    again = study.run(tmp_path / "runs")
    pd.testing.assert_frame_equal(again, runs)
    assert len(frames.regret(tmp_path / "runs"))


def test_the_plan_knows_forks_before_any_run_is_trained(store):
    rows = plan(forked_study(), store)
    assert [row["role"] for row in rows] == ["base", "fork", "fork", "fork"] * 2
    assert [row["state"] for row in rows] == ["new"] * 8
    base, drawn, skipped, deep = rows[:4]
    assert base["macs"] == drawn["macs"] < skipped["macs"]
    assert deep["macs"] < base["macs"]
    assert skipped["residual"] == pytest.approx(skipped["macs"] / base["macs"] - 1)


def test_the_command_of_a_study_with_forks_asks_for_it_again():
    config = study_config(study="grouping", fork=FORKS)
    assert f"--fork '{','.join(FORKS)}'" in command(config) or f"--fork {','.join(FORKS)}" in command(config)


def test_a_fork_whose_parent_failed_is_not_started(store, tmp_path):
    study = forked_study(seeds=1)
    parent, fork, *_ = study.next_runs()
    with store.run(parent).hold() as writer:
        writer.set_state("failed", "no room")
    outcome = execute(fork, store, tmp_path)
    assert outcome.state == "failed"
    assert outcome.reason == f"not started: it needs run {parent.name}, which is failed: no room"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"fork": ("2",)}, "fork '2': must be a stage and a change, like 2:criterion=random"),
        ({"fork": ("x:criterion=l2",)}, "fork 'x:criterion=l2': must be a stage and a change"),
        ({"fork": ("2:criterium=l2",)}, "unknown change 'criterium': did you mean 'criterion'"),
        ({"fork": ("2:group_lasso=x",)}, "group_lasso 'x' must be a number"),
        ({"fork": ("9:criterion=l2",)}, "stage 9: learned-.* is pruned in stage 1, 2, 3"),
        ({"fork": ("2:criterion=l1",)}, "criterion 'l1': is what learned-.* has already"),
        ({"fork": ("2:criterion=l2", "2:criterion=l2")}, "fork '2:criterion=l2': is named twice"),
        ({"fork": "2:criterion=l2"}, "fork '2:criterion=l2': must be a list"),
        ({"fork": ("2:criterion=l2",), "grouping": ("random",)}, r"grouping 'random'\) is never pruned"),
    ],
)
def test_forks_that_cannot_be_are_refused(settings, error):
    with pytest.raises(ValueError, match=error):
        forked_study(**settings)


def test_the_study_of_one_network_has_no_forks():
    with pytest.raises(ValueError, match="the study 'same' is of one network"):
        study_config(study="same", fork=FORKS)
