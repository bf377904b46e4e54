"""Condensed networks: the same outputs from fewer weights, and a certificate that would notice if not."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers.networks import lived_in
from helpers.runs import small_model
from helpers.strategies import model_configs
from hypothesis import given, settings, strategies as st
from torch import nn

from condense_core import CondenseNet, condense, cost_table
from condense_core.deploy import certify
from condense_core.deploy.outputs import TOLERANCE, relative_difference
from condense_core.grouping import masked_layers


def digit_images(digits, config) -> torch.Tensor:
    images = next(digits.test.evaluation_batches())[0][:4]
    return nn.functional.interpolate(images, config.image_size)


@settings(max_examples=30)
@given(model_configs(), st.integers(0, 5), st.booleans())
def test_condensed_outputs_equal_the_masked_ones_for_any_configuration(digits, config, stage, fold):
    if config.grouping == "unstructured":
        config = dataclasses.replace(config, grouping="learned")
    model = lived_in(config, stage)
    small = condense(model, fold)
    certificate = certify(model, small, digit_images(digits, config), "digits")
    assert certificate.passes, certificate
    assert cost_table(small).macs == cost_table(model).macs == certificate.macs


@pytest.mark.parametrize("grouping", ["learned", "random", "independent", "sequential"])
@pytest.mark.parametrize("connectivity", ["full", "block"])
def test_the_weights_that_are_left_are_the_live_ones(grouping, connectivity):
    model = lived_in(small_model(grouping=grouping, connectivity=connectivity, classifier_pruning=True))
    small = condense(model, fold=False)
    assert not masked_layers(small)
    norms = sum(p.numel() for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    ours = sum(p.numel() for m in small.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    stored = sum(parameter.numel() for parameter in small.parameters())
    assert stored - ours == cost_table(model).params - norms


def test_condensing_leaves_the_network_itself_alone():
    model = lived_in(small_model()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small = condense(model)
    assert model.training
    assert not small.training
    small.stem.weight.data.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_an_unfolded_network_can_be_trained_further_and_folded_then(digits):
    small = condense(lived_in(small_model()).train(), fold=False)
    assert small.training
    images, labels = next(digits.train.evaluation_batches())
    optimizer = torch.optim.SGD(small.parameters(), 0.01)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(small(images), labels).backward()
        optimizer.step()
    folded = condense(small)
    assert not any(name.endswith("norm2") for name, _ in folded.named_modules())
    assert relative_difference(folded(images), small.eval()(images)) <= TOLERANCE


def test_a_certificate_says_which_stage_the_network_is_in(digits):
    config = small_model()
    for stage in range(4):
        model = lived_in(config, stage)
        certificate = certify(model, condense(model), digit_images(digits, config), "digits")
        assert (certificate.stage, certificate.last_stage, certificate.passes) == (stage, 3, True)


def test_only_a_condensenet_can_be_condensed():
    with pytest.raises(TypeError, match="Linear: only a CondenseNet"):
        condense(nn.Linear(2, 2))


def test_single_weights_cannot_be_condensed():
    with pytest.raises(ValueError, match=r"block1\.0\.conv1: single weights are pruned"):
        condense(CondenseNet(small_model(grouping="unstructured"), seed=0))


def test_groups_of_unequal_shares_are_named():
    model = lived_in(small_model())
    model.blocks.block1[0].conv1.mask[1].fill_(True)
    with pytest.raises(ValueError, match=r"block1\.0\.conv1: groups keep \[2, 8, 2, 2\] inputs"):
        condense(model)


def test_a_certificate_notices_one_wrong_weight(digits):
    config = small_model()
    model = lived_in(config)
    small = condense(model)
    small.blocks.block2[1].conv1.weight.data[0, 0] += 0.1
    certificate = certify(model, small, digit_images(digits, config), "digits")
    assert not certificate.passes
    wrong = [layer.name for layer in certificate.layers if layer.difference > certificate.tolerance]
    assert wrong[0] == "blocks.block2.1.conv1"


def test_a_certificate_notices_a_group_that_keeps_more_than_its_share(digits):
    config = small_model()
    model = lived_in(config)
    model.blocks.block1[0].conv1.mask[:, :3] = True
    model.blocks.block1[0].conv1.mask[:, 3:] = False
    certificate = certify(model, condense(model), digit_images(digits, config), "digits")
    assert not certificate.passes
    assert (certificate.layers[0].kept, certificate.layers[0].share) != (2, 2)
