"""Networks whose 1x1 layers have condense factors of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.runs import small_model, small_run, train

from condense_core import CondenseNet, condense, cost_table
from condense_core.deploy import certify
from condense_core.grouping import masked_layers
from condense_core.presets import PRESETS
from condense_core.validation import to_dict

FACTORS = (4, 1, 2, 6)


def test_a_trained_network_has_the_masks_and_the_cost_of_its_factors_and_condenses(digits):
    config = small_run(condense_factors=FACTORS)
    trainer, records = train(config, digits)
    inputs = [layer.mask.shape[1] for layer in masked_layers(trainer.model).values()]
    kept = [layer.mask.sum(1).tolist() for layer in masked_layers(trainer.model).values()]
    assert kept == [[-(-i // factor)] * 4 for i, factor in zip(inputs, FACTORS, strict=True)]
    assert cost_table(trainer.model) == cost_table(config.model)
    assert records[-1].macs == cost_table(config.model).macs
    images = next(digits.test.evaluation_batches())[0]
    certificate = certify(trainer.model, condense(trainer.model), images, "digits")
    assert certificate.passes, certificate


def test_all_layers_reach_their_last_stage_together():
    config = small_model(condense_factors=FACTORS)
    assert config.last_stage == 5
    dense, last = (
        [layer.macs for layer in cost_table(config, stage).layers if layer.operator == "conv1x1"]
        for stage in (0, 5)
    )
    before = [layer.macs for layer in cost_table(config, 4).layers if layer.operator == "conv1x1"]
    assert last[1] == before[1] == dense[1]  # a layer with factor 1 loses nothing
    assert last[2] < before[2] == dense[2]  # one with factor 2 has a single step, the last


def test_equal_factors_are_the_uniform_network():
    uniform, uneven = small_model(condense_factor=4), small_model(condense_factors=(4,) * 4)
    for stage in range(4):
        assert cost_table(uneven, stage) == cost_table(uniform, stage)
    assert str(CondenseNet(uneven, seed=0)) == str(CondenseNet(uniform, seed=0))


def test_names_of_runs_without_them_are_those_of_earlier_versions():
    assert small_run().hash == replace(small_run(), model=small_model(condense_factors=None)).hash
    assert small_run().hash != small_run(condense_factors=FACTORS).hash
    assert "condense_factors" in to_dict(small_run().model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"condense_factors": (4, 4)}, r"condense_factors \(4, 4\): must be 4, one for each 1x1 layer"),
        ({"condense_factors": (4,) * 5, "connectivity": "block"}, "must be 6, one for each"),
        ({"condense_factors": (4, 4, 0, 4)}, "condense_factors 0: must be a whole number at least 1"),
        ({"condense_factors": FACTORS, "grouping": "random"}, "grouping 'random' is not learned"),
    ],
)
def test_bad_factors_are_one_clear_error(settings, message):
    with pytest.raises(ValueError, match=message):
        small_model(**settings)


def test_presets_have_one_factor_for_all_layers():
    assert all(len(set(config.layer_factors)) == 1 for config in PRESETS.values())
