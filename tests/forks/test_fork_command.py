"""`python -m analysis.fork` and `analysis.train_fork`: forks that are compared with their parents."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.runs import edit, small_run

import analysis
from analysis import frames
from analysis.cost import cost
from analysis.engines.single_run import execute
from analysis.findings import StudyFindings
from analysis.fork import fork
from condense_core.store import RunStore


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RunStore:
    """Two seeds of a run. Its tests add forks to it."""
    store = RunStore(tmp_path_factory.mktemp("forks") / "runs")
    store.create()
    for seed in (0, 1):
        execute(small_run(seed), store, Path("data"))
    return store


def ask(store: RunStore, *options: str) -> tuple[int, str]:
    answer = CliRunner().invoke(fork, [*options, "--runs", str(store.root)], standalone_mode=False)
    return answer.return_value, str(answer.exception or answer.stdout)


def test_forks_of_two_seeds_are_trained_and_compared_with_their_parents(store):
    parents = [small_run(seed).name for seed in (0, 1)]
    status, said = ask(store, *parents, "--stage", "2", "--criterion", "random", "--group-lasso", "0", "--json")
    assert status == 0
    answer = json.loads(said)
    assert [row["parent"] for row in answer["forks"]] == parents
    assert {row["state"] for row in answer["forks"]} == {"done"}
    found = StudyFindings(store, answer["study"])
    assert dict(found.runs.groupby("role").size()) == {"base": 2, "fork": 2}
    effect = found.effects.iloc[0]
    assert (effect.factor, effect.level) == ("fork", "2:criterion=random+group_lasso=0.0")
    errors = {row["parent"]: row["error_percent"] - row["parent_error_percent"] for row in answer["forks"]}
    assert effect.difference == pytest.approx(sum(errors.values()) / 2)
    assert any("the fork at stage 2 with criterion=random" in text.lower() for text in found.findings)


def test_a_fork_is_listed_with_its_parent(store):
    run = analysis.train_fork(store.run(small_run()), stage=1, skip_pruning=True)
    row = frames.runs(store).set_index("run").loc[run.name]
    assert (row.fork, row.parent, row.state) == ("1:skip_pruning", small_run().name, "done")
    assert frames.runs(small_run_of(store)).fork.isna().all()


def small_run_of(store: RunStore):
    return store.run(small_run())


def test_a_record_with_a_change_that_no_fork_can_make_is_left_out(store, tmp_path):
    copy = RunStore(shutil.copytree(store.root, tmp_path / "runs"))
    run = analysis.train_fork(copy.run(small_run()), stage=2, weight_decay=0)
    config = run.record["config"]
    edit(run.folder / "config.json", config=config | {"fork": config["fork"] | {"changed": ["__class__"]}})
    with pytest.warns(match="left out: changed '__class__': valid: criterion"):
        assert run.name not in set(frames.runs(copy).run)


def test_further_forks_enter_the_same_study(store):
    studies = set()
    for change in (["--criterion", "l2"], ["--mask-from", small_run(1).name]):
        _, said = ask(store, small_run().name, "--stage", "3", *change, "--json")
        studies.add(json.loads(said)["study"])
    assert len(studies) == 1
    labels = [variant["label"] for variant in store.read_study(studies.pop())["variants"]]
    assert len(set(labels)) == len(labels) >= 3


def test_the_cost_of_a_fork_that_was_not_pruned_at_last_is_that_of_its_masks(store):
    run = analysis.train_fork(store.run(small_run()), stage=3, skip_pruning=True)
    answer = CliRunner().invoke(cost, [run.name, "--json", "--runs", str(store.root)], standalone_mode=False)
    assert json.loads(answer.stdout)["macs"] == run.result["macs"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["nothing", "--stage", "2", "--criterion", "l2"], "run 'nothing': must be a run"),
        (["{run}", "--stage", "2"], "changes: none"),
        (["{run}", "--stage", "9", "--criterion", "l2"], "is pruned in stage 1, 2, 3"),
        (["{run}", "--stage", "2", "--criterion", "l2", "--mask-from", "nothing"], "run 'nothing'"),
        (["{run}", "--stage", "2", "--condense-factor", "2"], "condense_factor 2: would be in stage 0"),
        (["{run}", "--stage", "2", "--criterion", "l2", "--name", "a/b"], "name 'a/b'"),
    ],
)
def test_bad_input_is_refused_before_any_work(store, options, error):
    before = sorted(store.root.rglob("*"))
    _, said = ask(store, *(option.format(run=small_run().name) for option in options))
    assert error in said
    assert sorted(store.root.rglob("*")) == before
