"""Costs: the paper's numbers, fvcore's count, and the costs that an ablation compares."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from helpers.runs import small_model
from helpers.strategies import model_configs
from hypothesis import given, settings

from condense_core import PRESETS, CondenseNet, cost_table
from condense_core.condensation import prune_to_stage

PUBLISHED = {  # FLOPs and parameters in millions, as the official code computes them
    "condensenet-50": (28.64, 0.217),
    "condensenet-74": (51.90, 0.405),
    "condensenet-86": (65.82, 0.520),
    "condensenet-98": (81.26, 0.648),
    "condensenet-110": (98.24, 0.790),
    "condensenet-122": (116.74, 0.945),
    "condensenet-182": (512.67, 4.222),
    "condensenet-light-94": (121.93, 0.331),
    "condensenet-light-160": (1136.58, 3.147),
    "densenet-bc-100": (292.38, 0.769),
    "condensenet-74-imagenet-g4": (530.36, 5.806),
    "condensenet-74-imagenet-g8": (275.27, 3.967),
}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_costs_what_was_published(name):
    table = cost_table(PRESETS[name])
    flops, params = PUBLISHED[name]
    assert (round(table.flops_paper / 1e6, 2), round(table.params / 1e6, 3)) == (flops, params)


def test_a_pruned_classifier_costs_half_only_from_the_last_stage_on():
    config = dataclasses.replace(PRESETS["condensenet-74-imagenet-g4"], classifier_pruning=True)
    classifier = [cost_table(config, stage).layers[-1].macs for stage in range(4)]
    assert classifier[:3] == [classifier[0]] * 3
    assert classifier[3] * 2 == classifier[0]
    assert (round(cost_table(config).flops_paper / 1e6), round(cost_table(config).params / 1e6, 1)) == (
        529,
        4.8,
    )


@settings(max_examples=15)
@given(model_configs())
def test_a_live_model_costs_in_each_stage_what_its_configuration_says(config):
    model = CondenseNet(config, seed=0)
    for stage in range(config.last_stage + 1):
        prune_to_stage(model, stage, config.last_stage)
        assert cost_table(model) == cost_table(config, stage)


def test_a_dense_network_costs_what_fvcore_counts():
    config = small_model(grouping="none", groups=1, condense_factor=1, connectivity="block")
    model = CondenseNet(config, seed=0).eval()
    analysis = FlopCountAnalysis(model, torch.zeros(1, 3, 8, 8)).unsupported_ops_warnings(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counted = analysis.by_operator()
    assert cost_table(model).macs == counted["conv"] + counted["linear"]
    assert cost_table(model).params == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("connectivity", ["full", "block"])
@pytest.mark.parametrize("factor", [2, 3, 5])
def test_all_groupings_have_the_same_final_cost(connectivity, factor):
    costs = [
        cost_table(small_model(grouping=grouping, connectivity=connectivity, condense_factor=factor))
        for grouping in ("learned", "random", "independent", "sequential")
    ]
    assert len(set(costs)) == 1


def test_measuring_leaves_the_model_as_it_was():
    model = CondenseNet(small_model(), seed=0).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cost_table(model)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_stage_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="stage 4: must be 0 to 3"):
        cost_table(PRESETS["condensenet-50"], 4)


class Other(torch.nn.Module):
    """A network of others: a layer that is called twice, attention, and parameters of its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.token = torch.nn.Conv2d(3, 3, 1), torch.nn.Parameter(torch.zeros(3))
        self.norm, self.linear = torch.nn.LayerNorm(3), torch.nn.Linear(3, 5)

    def forward(self, x):
        x = self.conv(self.conv(x)).flatten(2).mT  # (N, H·W, 3)
        return self.linear(self.norm(torch.nn.functional.scaled_dot_product_attention(x, x, x)))


def test_a_network_of_others_is_counted_as_it_runs_and_its_parameters_once():
    model = Other()
    table = cost_table(model, image_size=4)
    assert table.macs == 2 * 9 * 16 + 2 * 3 * 16 * 16 + 15 * 16
    assert table.params == sum(parameter.numel() for parameter in model.parameters())
    assert cost_table(torch.compile(CondenseNet(small_model()))) == cost_table(CondenseNet(small_model()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"image_size: missing; a Sequential does not say .*image_size=224"),
        ({"image_size": 0}, "image_size 0: must be a whole number of pixels, at least 1"),
        ({"image_size": (8, 8)}, r"image_size \(8, 8\): must be a whole number"),
        ({"image_size": 2}, r"image_size 2: a Sequential cannot read a black image \(1, 3, 2, 2\): "),
        ({"image_size": 8, "stage": 0}, "stage 0: only a configuration has stages"),
    ],
)
def test_the_image_size_of_a_network_of_others_is_asked_for(given, message):
    from analysis.networks import count_conventions

    for count in (cost_table, count_conventions):
        with pytest.raises(ValueError, match=message):
            count(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), **given)


def test_another_image_size_than_a_networks_own_is_refused():
    for network in (small_model(), CondenseNet(small_model())):
        assert cost_table(network, image_size=8) == cost_table(network)
        with pytest.raises(ValueError, match=r"image_size 224: the .* is for images of 8 pixels"):
            cost_table(network, image_size=224)
