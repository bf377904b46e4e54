"""The walk over a network's topology: it names the layers of the network that is built, and their channels."""

from __future__ import annotations

import subprocess
import sys

import torch
from helpers.runs import small_model
from helpers.strategies import model_configs
from hypothesis import given, settings
from torch import nn

from condense_core import CondenseNet, cost_table
from condense_core.grouping import MaskedConv
from condense_core.looking import evaluating
from condense_core.topology import Source, layers

KINDS = {
    MaskedConv: "conv1x1",
    nn.BatchNorm2d: "norm",
    nn.ReLU: "relu",
    nn.AvgPool2d: "pool",
    nn.AdaptiveAvgPool2d: "pool",
    nn.Linear: "linear",
}


def kind_of(module: nn.Module) -> str | None:
    """The kind of a module as the walk names it, or None for containers and dropout."""
    if isinstance(module, nn.Conv2d):
        return f"conv{module.kernel_size[0]}x{module.kernel_size[1]}"
    return next((kind for parent, kind in KINDS.items() if isinstance(module, parent)), None)


@settings(max_examples=25)
@given(model_configs())
def test_the_walk_names_the_layers_of_the_network_in_its_order(config):
    built = [(name, kind_of(part)) for name, part in CondenseNet(config, seed=0).named_modules()]
    assert [(layer.name, layer.kind) for layer in layers(config)] == [pair for pair in built if pair[1]]


@settings(max_examples=25)
@given(model_configs())
def test_the_walk_has_the_channels_groups_and_sizes_that_an_image_meets(config):
    model, met = CondenseNet(config, seed=0), {}

    def hook(name):
        def record(module, inputs, output):
            groups = getattr(module, "groups", 1)
            size = output.shape[2] if output.dim() == 4 else 1
            met[name] = inputs[0].shape[1], output.shape[1], groups, size

        return record

    for name, module in model.named_modules():
        if kind_of(module):
            module.register_forward_hook(hook(name))
    with evaluating(model):
        model(torch.zeros(1, 3, config.image_size, config.image_size))
    for layer in layers(config):
        assert met.pop(layer.name) == (layer.in_channels, layer.out_channels, layer.groups, layer.size)
    assert not met


@given(model_configs())
def test_the_walk_and_the_cost_agree_on_every_layer(config):
    costs = cost_table(config).layers
    for layer, cost in zip(layers(config), costs, strict=True):
        assert (layer.name, layer.kind, layer.groups) == (cost.name, cost.operator, cost.groups)
        assert (layer.in_channels, layer.out_channels) == (cost.in_channels, cost.out_channels)
        assert layer.size == cost.output_size


@given(model_configs())
def test_sources_are_earlier_convolutions_and_cover_every_input_once(config):
    outputs = {}
    for layer in layers(config):
        if layer.name != "stem":
            ends = [0, *(source.stop for source in layer.sources)]
            assert [source.start for source in layer.sources] == ends[:-1]
            assert ends[-1] == layer.in_channels
        for source in layer.sources:
            assert source.stop - source.start == outputs[source.layer]
        if layer.kind in ("conv1x1", "conv3x3"):
            outputs[layer.name] = layer.out_channels


def test_features_of_earlier_blocks_are_read_across_a_pool():
    walk = {layer.name: layer for layer in layers(small_model())}
    stem, first = Source("stem", 0, 8), Source("blocks.block1.0.conv2", 8, 12)
    assert walk["blocks.transition1.pool"].sources == (stem, first)
    assert walk["blocks.block2.0.conv1"].sources == (stem, first)
    compressed = {layer.name: layer for layer in layers(small_model(connectivity="block"))}
    conv = compressed["blocks.transition1.conv"]
    assert compressed["blocks.block2.0.conv1"].sources == (Source(conv.name, 0, conv.out_channels),)


def test_the_walk_and_the_cost_of_a_configuration_need_no_torch():
    code = (
        "import sys; from condense_core import ModelConfig, cost_table; "
        "from condense_core.topology import layers; "
        "c = ModelConfig(stages=(1, 1), growth=(8, 8)); list(layers(c)); cost_table(c); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_evaluation_gives_every_module_its_own_mode_back():
    model = CondenseNet(small_model(), seed=0).train()
    frozen = model.blocks.block1[0].norm1.eval()
    before = {name: module.training for name, module in model.named_modules()}
    cost_table(model)
    assert not frozen.training
    assert {name: module.training for name, module in model.named_modules()} == before
