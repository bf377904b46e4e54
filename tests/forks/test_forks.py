"""Forks: a run leaves another one at a stage's entry, under another decision."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from helpers.runs import edit, small_run

from analysis.engines.single_run import execute
from condense_core.config import ForkConfig
from condense_core.store import Changed, Run, RunStore

DATA = Path("data")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    """A run that is pruned in stages 1, 2 and 3; its store has two seeds of it. No test may write to it."""
    store = RunStore(tmp_path_factory.mktemp("forks") / "runs")
    store.create()
    for seed in (0, 1):
        assert execute(small_run(seed), store, DATA).state == "done"
    return store.run(small_run())


@pytest.fixture
def parent(trained, tmp_path) -> Run:
    """The same in a store of the test's own."""
    shutil.copytree(trained.folder.parent, tmp_path / "runs")
    return Run(tmp_path / "runs" / trained.name)


def train(config, parent: Run, polls: int | None = None) -> Run:
    """Train a fork in its parent's store, to the end or for a number of steps."""
    count = [0]

    def stop() -> bool:
        count[0] += 1
        return polls is not None and count[0] > polls

    store = RunStore(parent.folder.parent)
    assert execute(config, store, DATA, stop).state == ("done" if polls is None else "stopped")
    return store.run(config)


def contents(run: Run, stage: int) -> dict[str, bytes]:
    """What a run shares with an equal fork at a stage: all but the states before it."""
    early = {one.path.name for one in run.checkpoints() if one.stage is not None and one.stage < stage}
    return {name: content for name, content in run.contents().items() if Path(name).name not in early}


def masks(run: Run, stage: int | None) -> dict[str, torch.Tensor]:
    """The masks of a stage by the names of their layers."""
    record = next(record for record in run.stages() if record["stage"] == stage)
    tensors = sorted(run.stage_tensors(record).items())
    return {name.removeprefix("mask."): mask for name, mask in tensors if name.startswith("mask.")}


def is_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(mask, other[name]) for name, mask in one.items())


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_fork_without_a_change_equals_its_parent(parent, stage):
    fork = train(dataclasses.replace(parent.config, fork=ForkConfig(parent.name, stage)), parent)
    assert fork.contents() == contents(parent, stage)
    assert len(fork.timings()) < len(parent.timings())


def test_a_fork_with_its_parents_masks_equals_its_parent(parent):
    fork = train(parent.fork(2, mask_from=parent.name), parent)
    assert fork.contents() == contents(parent, 2)


def test_a_fork_names_its_parent_the_moment_and_the_change(parent):
    fork = train(parent.fork(2, criterion="random", group_lasso=0), parent)
    assert fork.config.fork == ForkConfig(parent.name, 2, ("criterion", "group_lasso"))
    assert fork.record["config"]["fork"]["parent"] == parent.name
    assert fork.name not in (parent.name, parent.fork(1, criterion="random", group_lasso=0).name)
    assert fork.config.recipe.criterion == "random"
    assert fork in RunStore(parent.folder.parent).runs()


def test_a_fork_has_the_parents_life_before_it_and_another_one_after(parent):
    fork = train(parent.fork(2, criterion="random"), parent)
    begins = next(record for record in parent.stages() if record["stage"] == 2)
    before = int(begins["epoch"])
    assert fork.epochs()[:before] == parent.epochs()[:before]
    assert [row["epoch"] for row in fork.epochs()] == [row["epoch"] for row in parent.epochs()]
    assert fork.stages()[:2] == parent.stages()[:2]
    assert is_same(masks(fork, 1), masks(parent, 1))
    assert fork.result["macs"] == parent.result["macs"]
    assert not is_same(masks(fork, 2), masks(parent, 2))


@pytest.mark.parametrize("polls", [0, 2, 6])
def test_a_fork_that_was_stopped_goes_on_to_the_same_files(parent, tmp_path, polls):
    config = parent.fork(2, criterion="l2")
    if polls:
        train(config, parent, polls)
    else:  # it was killed in its first moment
        store = RunStore(parent.folder.parent)
        with store.run(config).hold() as writer:
            writer.start(config, parent.record["data_fingerprint"])
            writer.load_checkpoint()
            (store.run(config).folder / "metrics.jsonl").write_text("")
    fork = train(config, parent)
    shutil.copytree(parent.folder.parent, tmp_path / "other", ignore=lambda *_: [fork.name])
    whole = train(config, Run(tmp_path / "other" / parent.name))
    assert fork.contents() == whole.contents()


def test_a_fork_can_be_forked(parent):
    fork = train(parent.fork(1, group_lasso=0), parent)
    second = train(fork.fork(3, criterion="random"), fork)
    assert second.epochs()[:2] == fork.epochs()[:2]
    assert second.config.recipe.group_lasso == 0


def test_a_fork_to_more_pruning_passes_over_the_stages_that_are_behind_it(parent):
    fork = train(parent.fork(2, condense_factor=8), parent)
    assert [record["stage"] for record in fork.stages()] == [0, 1, *range(2, 8), None]
    deep = train(parent.fork(2, condense_factor=16), parent)
    assert [record["stage"] for record in deep.stages()] == [0, 1, *range(4, 16), None]
    for mask in masks(deep, None).values():
        assert mask.sum(1).tolist() == [-(-mask.shape[1] // 16)] * len(mask)


def test_a_fork_to_no_pruning_stays_dense(parent):
    fork = train(parent.fork(1, condense_factor=1), parent)
    assert all(mask.all() for mask in masks(fork, None).values())
    assert fork.result["macs"] > parent.result["macs"]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_fork_that_skips_its_pruning_catches_up_at_the_next_stage(parent, stage):
    fork = train(parent.fork(stage, skip_pruning=True), parent)
    costs = {record["stage"]: record["macs"] for record in parent.stages()}
    own = {record["stage"]: record["macs"] for record in fork.stages()}
    assert is_same(masks(fork, stage), masks(parent, stage - 1))
    assert own[stage] == costs[stage - 1]
    if stage < 3:
        assert own[stage + 1] == costs[stage + 1]
        assert fork.result["macs"] == parent.result["macs"]
    else:
        assert fork.result["macs"] == costs[2]


def test_the_masks_of_another_run_are_taken_from_the_fork_on(parent):
    other = next(run for run in RunStore(parent.folder.parent).runs() if run != parent)
    fork = train(parent.fork(2, mask_from=other.name), parent)
    for stage in (2, 3, None):
        assert is_same(masks(fork, stage), masks(other, stage))
    assert is_same(masks(fork, 1), masks(parent, 1))
    weights = fork.weights()
    for name, mask in masks(fork, None).items():
        weight = weights[f"{name}.weight"].flatten(1)
        assert not weight[~mask.repeat(len(weight) // len(mask), 1)].any()


@pytest.mark.parametrize(
    ("stage", "changes", "error"),
    [
        (2, {}, "changes: none; a fork changes one or more of criterion"),
        (2, {"skip_pruning": False}, "changes: none"),
        (2, {"criterium": "l2"}, "unknown change 'criterium': did you mean 'criterion'"),
        (2, {"epochs": 3}, "unknown change 'epochs'"),
        (2, {"criterion": "l1"}, "criterion 'l1': is what learned-.* has already"),
        (2, {"criterion": "l3"}, "criterion 'l3': valid: l1, l2"),
        (2, {"learning_rate": -1}, "learning_rate -1: must be a number at least 0"),
        (0, {"criterion": "l2"}, "stage 0: learned-.* is pruned in stage 1, 2, 3"),
        (4, {"criterion": "l2"}, "stage 4: learned-.* is pruned in stage 1, 2, 3"),
        (True, {"criterion": "l2"}, "stage True"),
        ("2", {"criterion": "l2"}, "stage '2'"),
        (2, {"condense_factor": 2}, "condense_factor 2: would be in stage 0 at the entry of stage 2"),
        (3, {"condense_factor": 3}, "condense_factor 3: would be in stage 2 at the entry of stage 3"),
        (2, {"pruning": "one-shot"}, "pruning 'one-shot': would be in stage 0 at the entry of stage 2"),
        (2, {"skip_pruning": True, "mask_from": "x"}, "skip_pruning: does not go with mask_from 'x'"),
        (2, {"mask_from": "x"}, "mask_from 'x': is not in "),
        (2, {"mask_from": "../x"}, r"mask_from '\.\./x'"),
    ],
)
def test_a_fork_that_cannot_be_is_refused(trained, stage, changes, error):
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        trained.fork(stage, **changes)


def test_a_run_that_is_not_there_cannot_be_forked(store):
    with pytest.raises(FileNotFoundError, match="is no run that was started"):
        store.named("x").fork(1, criterion="l2")


def test_a_run_that_is_never_pruned_cannot_be_forked(store):
    config = small_run(grouping="random")
    execute(config, store, DATA)
    with pytest.raises(ValueError, match=r"stage 1: random-.* \(grouping 'random'\) is never pruned"):
        store.run(config).fork(1, group_lasso=0.1)


def test_masks_of_another_network_are_refused(parent):
    store, wide = RunStore(parent.folder.parent), small_run(growth=(8, 8, 8))
    execute(wide, store, DATA)
    with pytest.raises(ValueError, match=r"mask_from .*: is another network: its growth is \(8, 8, 8\)"):
        parent.fork(2, mask_from=wide.name)


def test_a_run_without_the_state_of_the_stage_cannot_be_forked(parent):
    for one in parent.checkpoints():
        if one.stage == 2:
            one.path.unlink()
    with pytest.raises(FileNotFoundError, match=r"stage 2: run .* \(done\) keeps no such state; there: 1, 3"):
        parent.fork(2, criterion="l2")


def test_a_run_of_other_code_or_data_cannot_be_forked(parent):
    config = parent.fork(2, criterion="l2")
    edit(parent.folder / "config.json", data_fingerprint="0")
    outcome = execute(config, RunStore(parent.folder.parent), DATA)
    assert outcome.state == "failed"
    assert outcome.reason.startswith(f"run {parent.name}: cannot be forked: data: 0 then")
    environment = parent.record["environment"] | {"torch": "1.0"}
    edit(parent.folder / "config.json", environment=environment)
    with pytest.raises(Changed, match=r"cannot be forked: torch: 1\.0 then"):
        parent.fork(2, criterion="l2")


def test_a_damaged_state_of_the_parent_is_named(parent):
    config = parent.fork(2, criterion="l2")
    path = next(one.path for one in parent.checkpoints() if one.stage == 2)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    outcome = execute(config, RunStore(parent.folder.parent), DATA)
    assert outcome.state == "failed"
    assert path.name in outcome.reason
