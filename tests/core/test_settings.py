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
from condense_core.presets import preset_recipe
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


NAMES = {
    "condensenet-50": "learned-exponential-full-k8-s3-11b859eb5a",
    "condensenet-74": "learned-exponential-full-k8-s3-35446b18cb",
    "condensenet-86": "learned-exponential-full-k8-s3-eda27f077a",
    "condensenet-98": "learned-exponential-full-k8-s3-ddaf97a53c",
    "condensenet-110": "learned-exponential-full-k8-s3-0413451d52",
    "condensenet-122": "learned-exponential-full-k8-s3-ae9ad2adc1",
    "condensenet-182": "learned-exponential-full-k12-s3-9455626d3e",
    "condensenet-light-94": "learned-constant-block-k16-s3-3d2866d8ca",
    "condensenet-light-160": "learned-constant-block-k32-s3-8028d80b73",
    "densenet-bc-100": "none-constant-block-k12-s3-c332d82e65",
    "condensenet-74-imagenet-g4": "learned-exponential-full-k8-s3-36ab8d4b87",
    "condensenet-74-imagenet-g8": "learned-exponential-full-k8-s3-121714dddb",
}
"""Names of runs of the presets as commit 40ebbf7 gave them: stored runs are found by them."""


def test_the_names_of_runs_of_presets_are_those_of_the_first_stores():
    for preset, name in NAMES.items():
        data = DataConfig("imagenet:x" if PRESETS[preset].image_size > 64 else "cifar10")
        assert RunConfig(PRESETS[preset], preset_recipe(preset), data, 3).name == name
    assert NAMES.keys() == PRESETS.keys()


def test_whole_numbers_in_place_of_others_keep_their_names():
    model = ModelConfig([1], (4,), reduction=1, dropout=0)
    recipe = RecipeConfig(learning_rate=1, retraining_rate=0, weight_decay=0)
    run = RunConfig(model, recipe, DataConfig("digits", 0), 7)
    assert run.name == "learned-exponential-full-k4-s7-2f2cfc2161"
    assert from_json(RunConfig, to_json(run)).name == run.name


def test_a_setting_that_was_added_later_is_in_the_name_only_if_it_is_not_the_default():
    run = small_run()
    plain = to_dict(run)
    for part, name in (("model", "permute"), ("recipe", "precision"), ("recipe", "criterion")):
        del plain[part][name]
    assert from_dict(RunConfig, plain).name == run.name
    assert dataclasses.replace(run, model=dataclasses.replace(run.model, permute=False)).name != run.name


def test_lists_become_tuples_and_sets_are_refused():
    assert ModelConfig(stages=[1], growth=[4]) == ModelConfig((1,), (4,))
    with pytest.raises(ValueError, match=r"stages \{1\}: must be a list"):
        ModelConfig({1}, (4,))
