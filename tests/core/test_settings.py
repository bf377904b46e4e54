"""Configurations: what they refuse, and that nothing is lost on the way through text."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from helpers.paths import ROOT
from helpers.runs import small_model, small_run
from helpers.strategies import model_configs
from hypothesis import given, strategies as st

from condense_core import PRESETS, DataConfig, ModelConfig, RecipeConfig, RunConfig
from condense_core.validation import from_dict, from_json, from_toml, to_dict, to_json, to_toml


@st.composite
def run_configs(draw) -> RunConfig:
    recipe = RecipeConfig(
        epochs=draw(st.integers(1, 500)),
        group_lasso=draw(st.floats(0, 1)),
        learning_rate=draw(st.floats(0, 10)),
    )
    data = DataConfig(
        draw(st.sampled_from(["digits", "cifar10", "folder:a b/ü"])),
        draw(st.floats(0, 0.9)),
        draw(st.sampled_from([None, 2, 500])),
    )
    return RunConfig(draw(model_configs()), recipe, data, draw(st.integers(0, 2**31)))


@given(run_configs())
def test_a_configuration_survives_json_and_toml(config):
    for back in (
        from_json(RunConfig, to_json(config)),
        from_toml(RunConfig, to_toml(config)),
        from_dict(RunConfig, to_dict(config)),
    ):
        assert back == config
        assert back.hash == config.hash


def test_presets_survive_toml():
    for preset in PRESETS.values():
        assert from_toml(ModelConfig, to_toml(preset)) == preset


def test_every_setting_that_changes_a_run_changes_its_name():
    run = small_run()
    others = [
        dataclasses.replace(run, seed=1),
        dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, weight_decay=0.0)),
        dataclasses.replace(run, data=dataclasses.replace(run.data, validation_fraction=0.2)),
        dataclasses.replace(run, model=dataclasses.replace(run.model, dropout=0.1)),
    ]
    assert len({run.name, *(other.name for other in others)}) == 5
    assert dataclasses.replace(run, threads=2, device="cuda").name == run.name


def test_the_hash_is_the_same_in_another_process():
    code = "from helpers.runs import small_run; print(small_run().hash)"
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT / "tests",
    )
    assert other.stdout.strip() == small_run().hash


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"condense_factor": 0}, "condense_factor 0: must be a whole number at least 1"),
        ({"groups": 3}, "groups 3: must divide the output channels"),
        ({"groups_3x3": 3}, "groups_3x3 3: must divide"),
        ({"growth": (4, 8)}, r"growth \(4, 8\): must have as many entries as stages"),
        ({"stages": ()}, "stages .*: must be a list of one or more"),
        ({"stages": (1, 0, 1)}, "stages 0: must be a whole number at least 1"),
        ({"grouping": "lerned"}, "did you mean 'learned'"),
        ({"grouping": "none"}, "grouping 'none' needs 1 and 1"),
        ({"image_size": 3}, "image_size 3: must be at least 4 pixels"),
        ({"dropout": 1.0}, "dropout 1.0: must be a number at least 0 and below 1"),
        ({"dropout": float("nan")}, "dropout nan"),
        ({"bottleneck": True}, "bottleneck True"),
        ({"classifier_pruning": 1}, "classifier_pruning 1: must be true or false"),
    ],
)
def test_a_bad_setting_is_named_with_what_is_valid(settings, message):
    with pytest.raises(ValueError, match=message):
        small_model(**settings)


def test_an_unknown_setting_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="unknown setting 'groth': did you mean 'growth'"):
        from_dict(ModelConfig, {"stages": [1], "groth": [4]})
    with pytest.raises(ValueError, match="growth: missing from ModelConfig"):
        from_dict(ModelConfig, {"stages": [1]})
    with pytest.raises(ValueError, match="epochs -1"):
        RecipeConfig(epochs=-1)
    with pytest.raises(ValueError, match="did you mean 'cifar10'"):
        DataConfig("cifar-10")
