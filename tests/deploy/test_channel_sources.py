"""Which layer made each channel that a masked layer reads."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from condense_core import learn_groups
from condense_core.deploy import channel_sources

IMAGE = torch.zeros(1, 3, 32, 32)


@pytest.fixture(scope="module")
def of():
    """Sources of the learned layers of a torchvision network, by its name."""
    found = {}

    def sources(name, **settings):
        if name not in found:
            model = getattr(torchvision.models, name)(num_classes=10)
            learn_groups(model, **settings)
            found[name] = channel_sources(model, IMAGE)
        return found[name]

    return sources


def test_a_dense_layer_reads_every_earlier_one_of_its_block_and_the_transition_before(of):
    block = "features.denseblock2."
    assert of("densenet121")[f"{block}denselayer3.conv1"] == (
        ("features.transition1.conv", 0, 128),
        (f"{block}denselayer1.conv2", 128, 160),
        (f"{block}denselayer2.conv2", 160, 192),
    )


def test_a_residual_layer_reads_the_sum_of_those_before_it(of):
    found = of("resnet18", select="layer*.conv*")
    assert found["layer1.0.conv2"] == (("layer1.0.conv1", 0, 64),)
    assert found["layer1.1.conv1"] == (("layer1.0.conv2 + conv1", 0, 64),)
    assert found["layer2.0.conv1"] == (("layer1.1.conv2 + layer1.0.conv2 + 1 more", 0, 64),)


def test_shuffled_channels_have_all_layers_behind_them_as_their_source(of):
    assert of("shufflenet_v2_x1_0")["stage3.1.branch2.0"] == (
        ("stage3.0.branch2.5 + stage3.0.branch1.2", 0, 116),
    )


def test_sources_are_of_all_channels_without_a_gap(of):
    for layer, sources in of("mobilenet_v3_small").items():
        stops = [0, *(stop for _, _, stop in sources)]
        assert [start for _, start, _ in sources] == stops[:-1], layer


def test_sums_are_split_where_one_of_them_changes_its_maker():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(3, 12, 1)
            self.read = nn.Conv2d(12, 4, 1)

        def forward(self, x):
            return self.read(torch.cat([self.a(x), self.b(x)], 1) + self.c(x))

    model = Sum()
    learn_groups(model, select="read")
    assert channel_sources(model, IMAGE) == {"read": (("c + a", 0, 4), ("c + b", 4, 12))}


def test_a_model_is_as_it_was_afterwards():
    model = torchvision.models.resnet18(num_classes=10)
    learn_groups(model, select="layer*.conv*")
    before = {name: own.clone() for name, own in model.state_dict().items()}
    channel_sources(model, IMAGE)
    assert model.training
    assert all(torch.equal(own, before[name]) for name, own in model.state_dict().items())


def test_why_a_model_cannot_be_traced_is_said():
    class Asks(nn.Sequential):
        def forward(self, x):
            return super().forward(x) if x.sum() >= 0 else x

    model = Asks(nn.Conv2d(3, 4, 1))
    learn_groups(model, groups=2, condense_factor=2)
    with pytest.raises(ValueError, match=r"torch\.fx cannot trace the Asks: "):
        channel_sources(model, IMAGE)
