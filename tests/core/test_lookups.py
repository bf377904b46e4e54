"""Whoever looks something up by a name that is not there is told which names there are."""

from __future__ import annotations

import dataclasses

import pytest
from helpers.runs import small_model

from analysis import frames
from analysis.networks import BASELINES, find_network, load_network
from analysis.studies import NAMED_STUDIES
from analysis.timing import EXECUTIONS
from condense_core import PRESETS, cost_table, load_condensed, load_official
from condense_core.presets import preset_recipe
from condense_core.store import Run, RunStore
from condense_core.tables import CRITERIA, DATASETS, GROUPINGS, Grouping, UnknownName


@pytest.mark.parametrize(
    ("table", "name", "message"),
    [
        (PRESETS, "condensenet-87", "preset 'condensenet-87': did you mean .*'condensenet-86'"),
        (BASELINES, "resnet18", "baseline 'resnet18': did you mean 'resnet-18'"),
        (NAMED_STUDIES, "goruping", "study 'goruping': did you mean 'grouping'"),
        (EXECUTIONS, "tourch", "execution 'tourch': did you mean 'torch'"),
        (GROUPINGS, "lerned", "grouping 'lerned': did you mean 'learned'"),
        (CRITERIA, "l3", "criterion 'l3': valid: l1, l2"),
        (DATASETS, "cifar", "data 'cifar': did you mean 'cifar10'"),
        (frames.COLUMNS, "run", "frame 'run': did you mean 'runs'"),
    ],
)
def test_a_table_names_what_was_meant(table, name, message):
    for kind in (KeyError, ValueError):
        with pytest.raises(kind, match=f"^{message}"):
            table[name]
    assert table.get(name) is None
    assert name not in table


def test_names_of_recipes_and_registered_entries_are_looked_up_the_same_way():
    with pytest.raises(UnknownName, match="preset 'condensenet-87'"):
        preset_recipe("condensenet-87")
    with pytest.raises(UnknownName, match="grouping 'lerned': did you mean"):
        GROUPINGS.remove("lerned")


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (
            lambda store: load_network("nope", store),
            r"run 'nope': must be a run \(none is in .*\) or a checkpoint",
        ),
        (
            lambda store: load_network("condensenet-86", store),
            "is a preset, without trained weights; must be a run",
        ),
        (
            lambda store: find_network("nope", store),
            r"'nope': must be a network \(condensenet-50, .*, a run .* or a",
        ),
        (lambda store: find_network("condensenet-87", store), "did you mean .*'condensenet-86'"),
        (lambda store: load_network("x.pth", store), "x.pth: there is no such file"),
        (lambda store: load_condensed("x"), "^x: there is no such file"),
        (lambda store: load_condensed(store.root), "is a folder, not a file"),
        (lambda store: load_official(store.root), "is a folder, not a file"),
        (lambda store: cost_table("condensenet-86"), "network 'condensenet-86': must be a configuration"),
        (lambda store: frames.times("nowhere"), "runs 'nowhere': no run store there"),
        (lambda store: frames.study_runs("nowhere", "x"), "runs 'nowhere': no run store there"),
        (lambda store: frames.study_runs(store, "x"), r"study 'x': not in .* \(there: none\)"),
        (lambda store: frames.outcomes(store, "train"), "split 'train': must be one of test, validation"),
        (lambda store: frames.published("cifar10"), "data 'cifar10': valid: CIFAR-10, "),
        (lambda store: Run(store.root / "x").config, "is no run that was started: it has no config.json"),
    ],
)
def test_a_name_that_is_not_there_is_said_in_one_sentence(tmp_path, look, message):
    store = RunStore(tmp_path / "runs")
    store.create()
    with pytest.raises((ValueError, OSError), match=message) as error:
        look(store)
    assert "\n" not in str(error.value)
    assert "Errno" not in str(error.value)


def test_a_stage_that_no_run_has_is_refused(small_store):
    with pytest.raises(ValueError, match="stage '9': must be 0 to 3, or 'end'"):
        frames.connections(small_store, "9")
    assert frames.connections(small_store, 2).equals(frames.connections(small_store, "2"))
    assert len(frames.connections(small_store, 2))


def test_a_grouping_that_is_registered_again_has_its_new_cost():
    config = dataclasses.replace(small_model(), grouping="random")
    kept = GROUPINGS["random"].mask
    layer = GROUPINGS["learned"].layer
    try:
        GROUPINGS.add("mine", Grouping("mine", mask=kept))
        config = dataclasses.replace(config, grouping="mine")
        pruned = [cost_table(config, stage).macs for stage in (0, config.last_stage)]
        first = cost_table(config, 0)
        GROUPINGS.add("mine", Grouping("mine", layer=layer, is_learned=True))
        assert cost_table(config, 0).macs > first.macs
        GROUPINGS.add("mine", Grouping("mine", mask=kept))
        assert [cost_table(config, stage).macs for stage in (0, config.last_stage)] == pruned
    finally:
        GROUPINGS.remove("mine")
