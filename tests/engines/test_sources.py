"""Runs that take masks from other runs: in order, resumable, and with a reason if they cannot start."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from helpers.killed_worker import deadly
from helpers.runs import small_run

from analysis.engines import Launch, processes
from analysis.engines.processes import ProcessEngine, ThisProcess
from analysis.engines.single_run import execute
from analysis.engines.sources import in_order, startable
from condense_core import RunConfig
from condense_core.config import MasksConfig
from condense_core.masks import fingerprint
from condense_core.store import RunStore

DATA = Path("data")
SOURCE = small_run()


def taking(source: RunConfig, name: str | None = None, **settings) -> RunConfig:
    """Return the replay of a run."""
    model = replace(source.model, grouping="given")
    return replace(source, model=model, masks=MasksConfig(name or source.name), **settings)


CHILD = taking(SOURCE)


def masks_of(store: RunStore, config: RunConfig) -> dict[str, torch.Tensor]:
    run = store.run(config)
    tensors = run.stage_tensors(run.stages()[-1])
    return {name[5:]: mask for name, mask in tensors.items() if name.startswith("mask.")}


def launched(engine, configs, store, jobs=None) -> dict:
    with Launch(engine, configs, store, DATA).prepared(lambda store: None) as training:
        return {outcome.run: outcome for outcome in training.with_bar(jobs, progress=False)}


def test_runs_wait_for_those_that_they_need_in_whatever_order_they_are_asked_for():
    other, third = small_run(seed=1), taking(CHILD)
    asked = [third, CHILD, SOURCE, taking(other), other]
    assert in_order(asked) == [SOURCE, CHILD, third, other, taking(other)]
    assert in_order([CHILD]) == [CHILD]  # its source is trained already, or nowhere
    assert startable(asked, []) == [SOURCE, other]
    assert startable([third, CHILD, taking(other)], [SOURCE]) == [taking(other)]
    assert startable([third, CHILD], []) == [CHILD]


def test_masks_are_those_of_the_sources_end_and_the_record_has_their_fingerprint(store):
    outcomes = launched(ThisProcess(), [CHILD, SOURCE], store)
    assert [outcomes[config.name].state for config in (SOURCE, CHILD)] == ["done", "done"]
    masks = masks_of(store, SOURCE)
    assert all(torch.equal(mask, masks[name]) for name, mask in masks_of(store, CHILD).items())
    record = store.run(CHILD).record
    assert record["config"]["masks"] == {"run": SOURCE.name, "shuffled": False}
    assert record["masks_fingerprint"] == fingerprint(masks)
    assert "masks_fingerprint" not in store.run(SOURCE).record
    assert [row["macs"] for row in store.run(CHILD).epochs()] == [store.run(SOURCE).result["macs"]] * 6


def test_processes_train_sources_first_and_write_what_one_process_does(store, tmp_path):
    configs = [CHILD, taking(SOURCE, initial_seed=1), SOURCE]
    assert {one.state for one in launched(ProcessEngine(), configs, store, jobs=2).values()} == {"done"}
    alone = RunStore(tmp_path / "alone")
    launched(ThisProcess(), configs, alone)
    for config in configs:
        assert store.run(config).contents() == alone.run(config).contents()


def test_a_run_that_takes_masks_resumes_to_the_same_files_and_its_source_is_not_trained_again(store, tmp_path):
    asked = count()
    execute(SOURCE, store, DATA)
    assert execute(CHILD, store, DATA, lambda: next(asked) > 8).state == "stopped"
    assert 0 < len(store.run(CHILD).epochs()) < 6
    before = store.run(SOURCE).status
    assert {one.state for one in launched(ThisProcess(), [SOURCE, CHILD], store).values()} == {"done"}
    assert store.run(SOURCE).status == before
    alone = RunStore(tmp_path / "alone")
    launched(ThisProcess(), [SOURCE, CHILD], alone)
    assert store.run(CHILD).contents() == alone.run(CHILD).contents()


@pytest.mark.parametrize("engine", [ThisProcess, ProcessEngine])
def test_a_source_that_diverges_fails_the_runs_that_need_it_with_its_reason_and_no_others(engine, store):
    wild = replace(SOURCE, recipe=replace(SOURCE.recipe, learning_rate=1e30))
    child, grandchild = taking(wild), taking(taking(wild))
    outcomes = launched(engine(), [wild, child, grandchild, SOURCE, CHILD], store)
    states = [outcomes[config.name].state for config in (wild, child, grandchild, SOURCE, CHILD)]
    assert states == ["diverged", "failed", "failed", "done", "done"]
    reason = f"not started: it needs run {wild.name}, which is diverged: the loss is not finite in epoch 1"
    assert outcomes[child.name].reason == store.run(child).status["reason"] == reason
    assert f"it needs run {child.name}, which is failed" in outcomes[grandchild.name].reason
    assert not store.run(child).started


def test_dependencies_survive_kills_of_their_sources_and_their_own(store, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_execute_in_worker", deadly)
    lost, killed_once = SOURCE, small_run(seed=1)  # seed 0 is killed always, seed 1 in its first attempt
    configs = [taking(lost), lost, taking(killed_once), killed_once]
    outcomes = launched(ProcessEngine(), configs, store, jobs=2)
    assert [outcomes[config.name].state for config in configs] == ["failed", "failed", "done", "done"]
    alone = RunStore(tmp_path / "alone")
    assert {one.state for one in launched(ThisProcess(), configs, alone).values()} == {"done"}
    monkeypatch.undo()
    assert {one.state for one in launched(ProcessEngine(), configs, store, jobs=2).values()} == {"done"}
    for config in configs:
        assert store.run(config).contents() == alone.run(config).contents()


@pytest.mark.parametrize(
    ("state", "found"), [("running", "held"), ("stopped", "stopped"), ("failed", "failed"), ("new", "failed")]
)
def test_what_keeps_a_source_from_its_end_keeps_its_masks_too(state, found, store):
    if state != "new":
        with store.run(SOURCE).hold() as writer:
            writer.start(SOURCE, "images")
            writer.set_state(state, "a reason")
    outcome = execute(CHILD, store, DATA)
    assert (outcome.state, outcome.run) == (found, CHILD.name)
    assert f"needs run {SOURCE.name}, which is {state}" in outcome.reason
    execute(SOURCE, store, DATA, force=True)
    assert execute(CHILD, store, DATA).state == "done"


def test_damaged_masks_and_other_masks_than_a_run_began_with_are_named(store):
    execute(SOURCE, store, DATA)
    asked = count()
    execute(CHILD, store, DATA, lambda: next(asked) > 8)
    path = store.run(CHILD).folder / "config.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"masks_fingerprint": "0" * 16}))
    outcome = execute(CHILD, store, DATA)
    assert outcome.state == "failed"
    assert f"masks: {'0' * 16} then, {record['masks_fingerprint']} now" in outcome.reason
    end = store.run(SOURCE).folder / "stages" / "end.safetensors"
    end.write_bytes(end.read_bytes()[:-1])
    outcome = execute(taking(SOURCE, initial_seed=1), store, DATA)
    assert outcome.state == "failed"
    assert "end.safetensors" in outcome.reason
