"""The network: shapes, ablations, initial weights."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.runs import small_model
from helpers.strategies import model_configs
from hypothesis import given, settings
from torch import nn

from condense_core import CondenseNet, ModelConfig
from condense_core.grouping import MaskedConv


@settings(max_examples=25)
@given(model_configs())
def test_every_configuration_gives_logits(config):
    model = CondenseNet(config, seed=0).eval()
    assert model(torch.randn(2, 3, config.image_size, config.image_size)).shape == (2, config.num_classes)


def test_a_layer_reads_all_earlier_features_of_all_blocks():
    model = CondenseNet(ModelConfig(stages=(2, 2), growth=(8, 16)), seed=0)
    reads = [module.in_channels for module in model.modules() if isinstance(module, MaskedConv)]
    assert reads == [16, 24, 32, 48]
    assert model.classifier.in_features == 64


def test_block_connectivity_compresses_to_a_multiple_of_the_groups():
    model = CondenseNet(small_model(connectivity="block", reduction=0.3), seed=0)
    widths = [m.out_channels for name, m in model.named_modules() if name.endswith("conv")]
    assert widths == [4, 8]  # ceil(12·0.3) = 4; ceil(20·0.3) = 6, up to 8
    assert small_model(reduction=0.1).transition_channels(40) == 4  # 40·0.1 is a hair above 4 in floats


def test_growth_doubles_from_block_to_block():
    assert small_model().growth_schedule == "exponential"
    assert small_model(growth=(4, 4, 4)).growth_schedule == "constant"
    assert small_model(growth=(4, 12, 8)).growth_schedule == "4x12x8"


def test_a_3x3_group_reads_outputs_of_every_1x1_group():
    config = ModelConfig(stages=(1,), growth=(8,))
    per_group = config.bottleneck * 8 // config.groups_3x3
    for first in range(0, config.bottleneck * 8, per_group):
        assert {o % config.groups for o in range(first, first + per_group)} == set(range(config.groups))


@pytest.mark.parametrize("grouping", ["learned", "random", "independent", "sequential"])
def test_the_seed_fixes_weights_and_groups(grouping):
    models = [CondenseNet(small_model(grouping=grouping), seed).state_dict() for seed in (3, 3, 4)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert not torch.equal(models[0]["stem.weight"], models[2]["stem.weight"])


def test_weights_are_he_normal_by_fan_out_and_nothing_is_under_a_mask():
    model = CondenseNet(ModelConfig(stages=(2, 2), growth=(32, 64), grouping="random"), seed=0)
    weight = model.blocks.block2[1].conv2.weight
    fan_out = 64 * 9
    assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    for module in model.modules():
        if isinstance(module, MaskedConv):
            assert module.weight.count_nonzero() == module.mask.sum() * module.out_channels // module.groups


def test_dropout_stands_in_front_of_the_1x1():
    layer = CondenseNet(small_model(dropout=0.3), seed=0).blocks.block1[0]
    names = [name for name, _ in layer.named_children()]
    assert names.index("dropout") == names.index("conv1") - 1
    assert isinstance(layer.dropout, nn.Dropout)


def test_the_stem_halves_images_above_64_pixels():
    assert ModelConfig(stages=(1,), growth=(4,), image_size=64).stride == 1
    assert ModelConfig(stages=(1,), growth=(4,), image_size=65).stride == 2
    assert ModelConfig(stages=(1,), growth=(4,), image_size=224, stem_stride=4).stride == 4
