"""The importance of every connection after each epoch: what is kept, lost, damaged, or not there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.runs import small_run

from analysis import frames
from analysis.engines.single_run import execute
from condense_core.condensation import importance
from condense_core.store import RunStore, check_run

DATA = Path("data")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> RunStore:
    """Return a store with one finished run."""
    store = RunStore(tmp_path_factory.mktemp("importance") / "runs")
    store.create()
    execute(small_run(), store, DATA)
    return store


@pytest.fixture
def run(trained, tmp_path):
    """Return a copy of the finished run, which a test may damage."""
    copy = RunStore(shutil.copytree(trained.root, tmp_path / "copy"))
    return copy.runs()[0]


def test_every_epoch_is_recorded_and_the_last_is_that_of_the_weights(run):
    found = run.importances()
    assert [row.epoch for row in found] == list(range(1, 7))
    weights = run.weights()
    for name, halves in found[-1].layers.items():
        assert halves.dtype == np.float16
        expected = importance(weights[f"{name}.weight"], groups=len(halves))
        assert torch.allclose(torch.tensor(halves).float(), expected, rtol=1e-3)
    at_the_end = run.stage_arrays(run.stages()[-1])
    assert {f"mask.{name}" for name in found[-1].layers} == {name for name in at_the_end if "mask" in name}
    assert all((found[-1].layers[name] == 0)[~at_the_end[f"mask.{name}"]].all() for name in found[-1].layers)


@pytest.mark.parametrize("every", [0, 4])
def test_how_often_it_is_recorded_changes_neither_name_nor_results(store, run, every):
    config = replace(run.config, importance_every=every)
    assert execute(config, store, DATA).state == "done"
    again = store.run(config)
    assert again.name == run.name
    assert [row.epoch for row in again.importances()] == ([4] if every else [])
    check_run(again)
    theirs, ours = again.contents(), run.contents()
    assert ours.pop("importance.jsonl") != theirs.pop("importance.jsonl", b"")
    assert theirs == ours


def test_a_run_of_an_earlier_version_has_the_starts_of_its_stages_alone(run):
    (run.folder / "importance.jsonl").unlink()
    check_run(run)
    epochs = [record["epoch"] for record in run.stages()]
    assert sorted(set(frames.ranks(run).epoch)) == epochs
    assert sorted(set(frames.decided(run).epoch)) == epochs[:-1]


def test_nothing_is_recorded_where_nothing_is_chosen(store):
    config = small_run(grouping="random")
    execute(config, store, DATA)
    assert store.run(config).importances() == []


def test_a_torn_last_line_is_left_out(run):
    path = run.folder / "importance.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert [row.epoch for row in run.importances()] == list(range(1, 6))
    check_run(run)


def edited(line: str, **changes) -> str:
    return json.dumps(json.loads(line) | changes) + "\n"


DAMAGE = {
    "flipped": lambda line: line.replace('"data": "e', '"data": "f'),
    "cut": lambda line: edited(line, data=json.loads(line)["data"][:40]),
    "longer": lambda line: edited(line, layers={**json.loads(line)["layers"], "more": [4, 4]}),
    "shorter": lambda line: edited(line, layers={"blocks.block1.0.conv1": [4, 8]}),
    "no pairs": lambda line: edited(line, layers={"blocks.block1.0.conv1": 4}),
    "huge": lambda line: edited(line, layers={"blocks.block1.0.conv1": [1 << 16, 1 << 16]}),
    "not base64": lambda line: edited(line, data="~"),
    "early": lambda line: edited(line, epoch=1),
    "no row": lambda line: "[]\n",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_line_is_named(run, kind):
    path = run.folder / "importance.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], DAMAGE[kind](lines[2]), *lines[3:]]))
    with pytest.raises(ValueError, match=r"importance\.jsonl, line 3"):
        check_run(run)


def test_layers_of_another_network_are_named(run):
    path = run.folder / "importance.jsonl"
    text = path.read_text().replace("block1.0.conv1", "block1.7.conv1")
    path.write_text(text)
    with pytest.raises(ValueError, match=r"importance\.jsonl: has no layer blocks\.block1\.0\.conv1"):
        check_run(run)
