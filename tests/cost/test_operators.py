"""Costs of networks of others: each operator counts as it runs, and each parameter once."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from condense_core import cost_table
from condense_core.grouping import LearnedGroupConv

SIZE = 8  # images are (1, 3, 8, 8)


class Calls(nn.Module):
    """A network that consists of one function of the image, with weights of its own."""

    def __init__(self, function, *shapes):
        super().__init__()
        self.function, self.weights = function, nn.ParameterList(torch.zeros(shape) for shape in shapes)

    def forward(self, x):
        return self.function(x, *self.weights)


class Reads(nn.Module):
    """A network that asks for the value of a tensor, so that shapes are not enough."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        return self.part(x) if float(x.abs().sum()) == 0 else x


class SelfAttention(nn.Module):
    """Attention of torch.nn over three positions of width 64."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)

    def forward(self, x):
        x = rows(x)
        return self.attention(x, x, x, need_weights=False)[0]


def rows(x):
    return x.flatten(2)  # (1, 3, 64)


def films(x):
    return x.unflatten(1, (1, 3))  # (1, 1, 3, 8, 8)


def attention(x, *_):
    return F.scaled_dot_product_attention(x, x, x)


TWICE = nn.Conv2d(3, 3, 1)
COUNTS = {
    "linear over positions": (nn.Linear(8, 5), 3 * 8 * 8 * 5, 45),
    "linear without bias": (nn.Linear(8, 5, bias=False), 3 * 8 * 8 * 5, 40),
    "linear, called as a function": (Calls(F.linear, (5, 8)), 3 * 8 * 8 * 5, 40),
    "convolution, called as a function": (Calls(F.conv2d, (4, 3, 3, 3)), 4 * 27 * 36, 108),
    "transposed": (nn.ConvTranspose2d(3, 5, 2, stride=2), 3 * 5 * 4 * 64, 65),
    "transposed in groups": (nn.ConvTranspose2d(3, 6, 2, groups=3), 3 * 2 * 4 * 64, 30),
    "1-d": (Calls(lambda x, w: F.conv1d(rows(x), w), (4, 3, 5)), 4 * 15 * 60, 60),
    "3-d": (Calls(lambda x, w: F.conv3d(films(x), w), (2, 1, 3, 3, 3)), 2 * 27 * 36, 54),
    "padding by name": (nn.Conv2d(3, 4, 3, padding="same", bias=False), 4 * 27 * 64, 108),
    "a layer that is used twice": (nn.Sequential(TWICE, nn.ReLU(), TWICE), 2 * 9 * 64, 12),
    "attention": (Calls(attention, (7,)), 3 * 2 * 8 * 8 * 8, 7),
    "attention of torch.nn": (SelfAttention(), 4 * 64 * 64 * 3 + 2 * 3 * 3 * 64, 4 * 64 * 65),
    "product of features": (Calls(lambda x: x @ x), 3 * 8 * 8 * 8, 0),
    "einsum": (Calls(lambda x, w: torch.einsum("nchw,oc->nohw", x, w), (5, 3)), 5 * 3 * 64, 15),
    "product with a vector": (Calls(lambda x, w: x[0, 0] @ w, (8,)), 64, 8),
    "norms": (nn.Sequential(nn.LayerNorm(8), nn.GroupNorm(3, 3), nn.BatchNorm2d(3)), 0, 28),
    "recurrent": (nn.Sequential(nn.Flatten(2), nn.LSTM(64, 4)), 3 * 16 * (64 + 4), 16 * (64 + 4) + 32),
}
"""Each network with its multiply-adds and its parameters."""


@pytest.mark.parametrize("name", COUNTS)
def test_an_operator_counts_as_it_runs(name):
    network, macs, params = COUNTS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = cost_table(network, image_size=SIZE)
    assert (table.macs, table.params) == (macs, params)


@pytest.mark.parametrize("name", [name for name in COUNTS if name != "recurrent"])
def test_a_network_that_needs_numbers_costs_the_same(name):
    network, macs, params = COUNTS[name]
    table = cost_table(Reads(network), image_size=SIZE)
    assert (table.macs, table.params) == (macs, params)


def test_parameters_stand_in_the_row_of_their_module_and_others_in_the_last_one():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.token = nn.MultiheadAttention(8, 2), nn.Parameter(torch.zeros(8))
            self.stem, self.tied = nn.Conv2d(3, 3, 1), nn.Parameter(torch.zeros(5, 8))
            self.head = nn.Linear(8, 5)
            self.head.weight = self.tied

        def forward(self, x):
            x = self.stem(self.stem(x))[:, 0] + self.token
            return F.relu(self.head(self.attention(x, x, x)[0]))

    model = Block()
    table = cost_table(model, image_size=SIZE)
    assert [(row.name, row.operator, row.params) for row in table.layers] == [
        ("stem", "conv1x1", 12),
        ("stem", "conv1x1", 0),
        ("attention.addmm()", "linear", 288),
        *[("attention.bmm()", "product", 0)] * 2,
        ("attention.addmm()", "linear", 0),
        ("head", "linear", 5),
        ("relu()", "relu", 0),
        ("other parameters", "other", 48),
    ]
    assert table.params == sum(own.numel() for own in model.parameters())


def test_a_learned_convolution_in_a_network_of_others_counts_its_live_connections():
    layer = LearnedGroupConv(8, 12, groups=4, condense_factor=2)
    layer.mask[:, 4:] = False
    model = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), layer)
    table = cost_table(model, image_size=SIZE)
    assert [(row.macs, row.params, row.groups) for row in table.layers] == [
        (24 * 64, 24, 1),
        (4 * 12 * 64, 48, 4),
    ]


def test_a_product_without_a_formula_is_named_in_the_table_and_in_a_warning():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Calls(lambda x: torch.cdist(x, x)))
    with pytest.warns(UserWarning, match=r"does not count all of the model: 1 \w*cdist\w* left out"):
        table = cost_table(model, image_size=SIZE)
    assert [(row.operator, row.macs) for row in table.layers] == [("conv1x1", 9 * 64), ("not counted", 0)]
    assert table.layers[1].name.startswith("1.")


def test_arithmetic_that_has_no_multiply_adds_by_convention_is_not_warned_of():
    def elementwise(x):
        x = F.normalize(F.gelu(x)).cumsum(1).softmax(1).lgamma()
        return F.interpolate(x.cummax(1)[0].roll(1, 2), scale_factor=2, mode="bilinear").norm()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cost_table(Calls(elementwise), image_size=SIZE).macs == 0


def test_what_a_network_remembers_of_an_image_is_not_left_without_numbers():
    class Remembers(nn.Module):
        seen = None

        def forward(self, x):
            self.seen = x.sum() if self.seen is None else self.seen
            return x + self.seen

    model = Remembers()
    cost_table(model, image_size=SIZE)
    assert model(torch.ones(1, 3, 2, 2)).sum() == 12 + 12 * 12


def test_a_network_that_asserts_its_image_size_refuses_another_in_one_line():
    from torchvision.models import vit_b_32

    with torch.device("meta"):
        model = vit_b_32()
    with pytest.raises(
        ValueError, match=r"image_size 32: a VisionTransformer cannot read .*Wrong image height"
    ):
        cost_table(model, image_size=32)
