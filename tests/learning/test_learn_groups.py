"""Learned groups in networks of others: what is replaced, what is left alone and why, and the way back."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torchvision
from hypothesis import given, strategies as st
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from condense_core import CondenseNet, cost_table, dense, learn_groups
from condense_core.condensation import group_lasso, learned_layers, prune_to_stage
from condense_core.grouping import LearnedGroupConv, LearnedGroupLinear, masked_layers


class OwnConv(nn.Conv2d):
    """A convolution that computes something else."""


def replaced(model: nn.Module, **settings) -> list[str]:
    return [layer.name for layer in learn_groups(model, **settings).replaced]


def settle(model: nn.Module) -> nn.Module:
    """Give batch norms statistics as training leaves them."""
    draws = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=draws)
            module.running_var.uniform_(0.5, 2, generator=draws)
    return model.eval()


@st.composite
def networks(draw) -> tuple[nn.Sequential, int, int]:
    groups, factor = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    channels, layers = draw(st.integers(factor, 9)), []
    torch.manual_seed(draw(st.integers(0, 99)))
    for _ in range(draw(st.integers(1, 3))):
        outputs = groups * draw(st.integers(-(-factor // groups), 4))
        kernel, padding_mode = draw(st.integers(1, 3)), draw(st.sampled_from(["zeros", "reflect"]))
        settings = {"stride": draw(st.integers(1, 2)), "dilation": draw(st.integers(1, 2))}
        padding = kernel - 1
        layers.append(
            nn.Conv2d(
                *(channels, outputs, kernel),
                **settings,
                padding=padding,
                bias=draw(st.booleans()),
                padding_mode=padding_mode,
            )
        )
        channels = outputs
    return nn.Sequential(*layers), groups, factor


@given(networks(), st.sampled_from([torch.float32, torch.float64]))
def test_a_network_computes_what_it_did_until_it_is_pruned_and_what_is_left_of_it_then(network, dtype):
    model, groups, factor = network
    model = model.to(dtype).to(memory_format=torch.channels_last).eval()
    tensors, before = list(model.parameters()), copy.deepcopy(model)
    image = torch.randn(2, model[0].in_channels, 9, 9, dtype=dtype)
    assert len(replaced(model, groups=groups, condense_factor=factor, select="*")) == len(model)
    assert all(one is other for one, other in zip(model.parameters(), tensors, strict=True))
    torch.testing.assert_close(model(image), before(image))
    prune_to_stage(model, factor - 1, factor - 1)
    output, restored = model(image), dense(model)
    assert all(type(layer) is nn.Conv2d for layer in restored)
    assert restored.state_dict().keys() == before.state_dict().keys()
    assert repr(restored) == repr(before)
    torch.testing.assert_close(restored(image), output)
    zeros = sum(int((layer.weight == 0).sum()) for layer in restored)
    assert zeros > 0


@pytest.mark.parametrize(
    ("build", "settings", "count"),
    [
        (torchvision.models.resnet18, {}, 3),
        (torchvision.models.resnet18, {"select": ["layer*.conv*"]}, 16),
        (torchvision.models.resnext50_32x4d, {}, 36),
        (torchvision.models.densenet121, {}, 61),
        (torchvision.models.mobilenet_v3_small, {}, 40),
        (torchvision.models.shufflenet_v2_x0_5, {}, 36),
        (torchvision.models.regnet_y_400mf, {}, 60),
        (torchvision.models.squeezenet1_1, {"condense_factor": 2}, 17),
        (torchvision.models.mnasnet0_5, {"groups": 8}, 34),
        (torchvision.models.swin_t, {"linear": True}, 52),
    ],
)
def test_torchvision_networks_learn_groups_and_go_back(build, settings, count):
    torch.manual_seed(0)
    model = settle(build(weights=None, num_classes=8))
    image = torch.randn(1, 3, 64, 64)
    before, macs = model(image), cost_table(model, image_size=64).macs
    assert len(replaced(model, **settings)) == count
    torch.testing.assert_close(model(image), before)
    last = settings.get("condense_factor", 4) - 1
    lasso = group_lasso(model).item()
    prune_to_stage(model, last, last)
    assert 0 < group_lasso(model).item() < lasso
    assert cost_table(model, image_size=64).macs < macs
    pruned = model(image)
    torch.testing.assert_close(dense(model)(image), pruned)
    assert not masked_layers(model)


def test_foreign_code_still_finds_a_convolution():
    model = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1, dilation=1))
    learn_groups(model, select="0")
    layer = model[0]
    assert isinstance(layer, nn.Conv2d)
    assert (layer.in_channels, layer.out_channels, layer.kernel_size) == (8, 12, (3, 3))
    assert (layer.stride, layer.padding, layer.dilation) == ((2, 2), (1, 1), (1, 1))
    assert layer.weight.shape == (12, 8, 3, 3)
    assert torch.equal(pickle.loads(pickle.dumps(model))[0].mask, layer.mask)


def hooked() -> nn.Conv2d:
    layer = nn.Conv2d(8, 8, 1)
    layer.register_forward_hook(lambda *_: None)
    return layer


def changed(**attributes) -> nn.Conv2d:
    layer = nn.Conv2d(8, 8, 1)
    vars(layer).update(attributes)
    return layer


@pytest.mark.parametrize(
    ("layer", "settings", "reason"),
    [
        (nn.Conv2d(8, 8, 3), {}, "has a 3×3 kernel: name it in select"),
        (nn.Conv2d(8, 8, 1, groups=8), {}, "is depthwise"),
        (nn.Conv2d(8, 8, 1, groups=2), {}, "has 2 groups already"),
        (nn.Conv2d(8, 10, 1), {}, "4 groups do not divide 10 outputs"),
        (nn.Conv2d(3, 8, 1), {}, "has fewer inputs than the condense factor 4"),
        (nn.Conv2d(8, 8, 1).requires_grad_(False), {}, "its weight is frozen"),
        (nn.Linear(8, 8), {}, "linear layers need linear=True"),
        (nn.Conv1d(8, 8, 1), {"select": "*"}, "only 2-d convolutions and linear layers learn groups"),
        (nn.ConvTranspose2d(8, 8, 1), {}, "only 2-d convolutions and linear layers learn groups"),
        (OwnConv(8, 8, 1), {}, f"its class {__name__}.OwnConv may compute something else"),
        (nn.LazyConv2d(8, 1), {}, "its class torch.nn.modules.conv.LazyConv2d may compute something else"),
        (weight_norm(nn.Conv2d(8, 8, 1)), {}, "has hooks"),
        (parametrizations.weight_norm(nn.Conv2d(8, 8, 1)), {}, "is parametrized"),
        (hooked(), {}, "has hooks"),
        (changed(forward=lambda x: x), {}, "its forward was replaced"),
        (changed(mask=1), {}, "has an attribute mask of its own"),
        (nn.Conv2d(8, 8, 1), {"select": lambda name, _: name == "0"}, "not in select"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_layer_left_alone_is_listed_with_its_reason(layer, settings, reason):
    model = nn.Sequential(nn.Conv2d(8, 8, 1), layer)
    kind = type(layer)
    report = learn_groups(model, **settings)
    assert [layer.name for layer in report.replaced] == ["0"]
    assert [(layer.name, layer.reason) for layer in report.left_out] == [("1", reason)]
    assert reason in str(report)
    assert type(layer) is kind


def test_a_module_that_stands_in_two_places_learns_once_and_a_shared_weight_not_at_all():
    shared = nn.Conv2d(8, 8, 1)
    model = nn.ModuleDict(
        {"one": shared, "other": shared, "tied": nn.Conv2d(8, 8, 1), "it": nn.Conv2d(8, 8, 1)}
    )
    model["tied"].weight = model["it"].weight
    report = learn_groups(model)
    assert [layer.name for layer in report.replaced] == ["one"]
    assert model["one"] is model["other"]
    assert {layer.reason for layer in report.left_out} == {"shares its weight with another module"}


def test_linear_layers_learn_groups_of_outputs_on_request():
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 10))
    assert replaced(model, linear=True) == ["0"]
    assert isinstance(model[0], LearnedGroupLinear)
    x, before = torch.randn(3, 5, 8), group_lasso(model)
    prune_to_stage(model, 3, 3)
    assert model[0].mask.sum(1).tolist() == [2] * 4
    assert group_lasso(model) < before
    first_group = model[0].mask[0]
    y = model[0](x)
    x[..., ~first_group] = 0
    assert torch.equal(model[0](x)[..., :3], y[..., :3])
    assert dense(model)[0](x).shape == (3, 5, 12)
    assert type(model[0]) is nn.Linear


def test_an_optimizer_made_before_goes_on_with_the_same_weights():
    model = nn.Sequential(nn.Conv2d(8, 8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    learn_groups(model)
    before = model[0].weight.detach().clone()
    model(torch.ones(1, 8, 2, 2)).sum().backward()
    optimizer.step()
    assert isinstance(model[0], LearnedGroupConv)
    assert not torch.equal(model[0].weight, before)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (nn.Sequential(nn.ReLU()), {}, "no layer of the Sequential can learn groups: it has no convolution"),
        (
            nn.Sequential(nn.Conv2d(8, 8, 1)),
            {"groups": 3},
            "can learn groups: 0 3 groups do not divide 8 outputs",
        ),
        (nn.Sequential(nn.Conv2d(8, 8, 1)), {"groups": 0}, "groups 0: must be a whole number, at least 1"),
        (nn.Sequential(nn.Conv2d(8, 8, 1)), {"groups": 2.0}, "groups 2.0: must be a whole number"),
        (
            nn.Sequential(nn.Conv2d(8, 8, 1)),
            {"condense_factor": 1},
            "condense_factor 1: must be a whole number, ",
        ),
        (
            nn.Sequential(nn.Conv2d(8, 8, 1)),
            {"select": "layer*"},
            "select 'layer.': matches none of the 1 layers",
        ),
        (nn.Sequential(nn.Conv2d(8, 8, 1)), {"select": ()}, "can learn groups: 0 not in select"),
        (nn.DataParallel(nn.Conv2d(8, 8, 1)), {}, "the DataParallel is compiled or wrapped"),
        (torch.compile(nn.Conv2d(8, 8, 1)), {}, "the OptimizedModule is compiled or wrapped"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_changed(model, settings, message):
    before = repr(model)
    with pytest.raises(ValueError, match=message):
        learn_groups(model, **settings)
    assert repr(model) == before


def test_other_things_than_networks_and_patterns_are_refused():
    with pytest.raises(TypeError, match="model str: must be a"):
        learn_groups("resnet50")
    with pytest.raises(TypeError, match="select 3: must be a pattern"):
        learn_groups(nn.Sequential(nn.Conv2d(8, 8, 1)), select=[3])


def test_a_network_that_has_learned_groups_is_refused_until_it_is_dense_again():
    model = nn.Sequential(nn.Conv2d(8, 8, 1))
    learn_groups(model)
    with pytest.raises(
        ValueError, match=r"1 layers of the Sequential have masks already, such as 0; dense\(model\)"
    ):
        learn_groups(model)
    learn_groups(dense(model), groups=2)
    assert learned_layers(model)["0"].groups == 2
    with pytest.raises(ValueError, match="has no layer with learned groups"):
        dense(nn.Sequential(nn.Conv2d(8, 8, 1)))


def test_a_condensenet_has_its_own_grouping():
    from helpers.runs import small_model

    with pytest.raises(ValueError, match="has the grouping of its ModelConfig"):
        learn_groups(CondenseNet(small_model()))
