"""Any network with masked layers can be condensed: equal outputs, indices folded where it can be traced."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
import torchvision
from helpers.foreign import learned, networks, pruned
from helpers.networks import live_in
from helpers.runs import small_model
from hypothesis import given, settings
from torch import nn

from condense_core import CondenseNet, condense, learn_groups
from condense_core.deploy import Index, certify, export_file
from condense_core.deploy.outputs import TOLERANCE, difference, run
from condense_core.grouping import (
    LearnedGroupLinear,
    MaskedConv,
    UnstructuredConv,
    masked_layers,
)
from condense_core.masks import sequential_mask

TORCHVISION = [
    *("densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small"),
    *(
        "regnet_y_400mf",
        "resnet18",
        "resnet50",
        "shufflenet_v2_x0_5",
        "squeezenet1_1",
        "convnext_tiny",
        "vgg11",
    ),
]
WHICH = {"convnext_tiny": {"linear": True}, "vgg11": {"select": "features.*"}}
"""Layers that learn groups, in networks without 1×1 convolutions."""


def pointwise(inputs=8, outputs=8, groups=4, permute=False, seed=0) -> nn.Module:
    torch.manual_seed(seed)
    return learned(nn.Conv2d(inputs, outputs, 1), groups, permute)


def chain(*layers: nn.Module) -> nn.Sequential:
    return pruned(live_in(nn.Sequential(*layers)))


def images(channels=8, size=6) -> torch.Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def channels_of(small: nn.Module) -> list[tuple[int, int]]:
    return [(own.in_channels, own.out_channels) for own in small.modules() if isinstance(own, nn.Conv2d)]


def assert_equal(small: nn.Module, model: nn.Module, *arguments: torch.Tensor) -> None:
    assert difference(run(small, arguments), run(model, arguments)) <= TOLERANCE


@settings(max_examples=50, deadline=None)
@given(networks())
def test_condensed_outputs_and_layers_equal_the_masked_ones_for_random_networks(model):
    x = images(size=9)
    small = condense(model, x)
    assert small.condensed.reason is None
    assert not masked_layers(small)
    certificate = certify(model, small, x, "noise")
    assert certificate.worst <= TOLERANCE, certificate
    assert_equal(condense(model, x, fold=False), model, x)


@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision_go_through(name):
    torch.manual_seed(0)
    quick = {"init_weights": False} if name in ("googlenet", "vgg11") else {}
    model = torchvision.models.get_model(name, num_classes=8, **quick)
    if name == "vgg11":
        model.classifier = nn.Linear(512 * 7 * 7, 8)
    assert_goes_through(model, 48 if name in ("googlenet", "squeezenet1_1") else 32, **WHICH.get(name, {}))


@pytest.mark.parametrize("name", ["mobilenetv4_conv_small", "edgenext_xx_small"])
def test_networks_of_timm_go_through(name):
    torch.manual_seed(0)
    assert_goes_through(pytest.importorskip("timm").create_model(name, num_classes=8), 64)


def assert_goes_through(model: nn.Module, size: int, **which) -> None:
    learn_groups(model, **which)
    pruned(live_in(model))
    x = images(channels=3, size=size)
    small = condense(model, x)
    assert small.condensed.reason is None
    certificate = certify(model, small, x, "noise")
    assert certificate.passes
    assert certificate.layers
    assert certificate.params_after < certificate.params_before


def test_a_permutation_and_a_norm_are_taken_in_by_what_follows():
    model = chain(pointwise(permute=True), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3))
    small = condense(model, images())
    assert (small.condensed.indices, small.condensed.norms) == (1, 1)
    assert_equal(small, model, images())


def test_a_permutation_becomes_part_of_the_next_index():
    model = chain(pointwise(permute=True), nn.ReLU(), pointwise(permute=True, seed=1), nn.Conv2d(8, 8, 1))
    small = condense(model, images())
    assert small.condensed.indices == 2
    assert_equal(small, model, images())


class Branches(nn.Module):
    """Two layers that read the input, and one that reads their sum."""

    def __init__(self, one: nn.Module, two: nn.Module, last: nn.Module, returned: bool = False):
        super().__init__()
        self.one, self.two, self.last, self.returned = one, two, last, returned

    def forward(self, x):
        one = self.one(x)
        last = self.last(one + self.two(x))
        return (last, one) if self.returned else last


def test_a_permutation_of_all_parts_of_a_sum_passes_through_it():
    layers = pointwise(permute=True), pointwise(permute=True, seed=1), nn.Conv2d(8, 8, 1)
    model = pruned(Branches(*layers))
    small = condense(model, images())
    assert small.condensed.indices == 2
    assert_equal(small, model, images())


def test_layers_that_read_the_same_channels_share_one_index():
    model = pruned(Branches(pointwise(), pointwise(), nn.Conv2d(8, 8, 1)))
    small = condense(model, images())
    assert small.condensed.indices == 1
    assert_equal(small, model, images())


def test_an_index_of_all_channels_in_their_order_is_dropped():
    layer = MaskedConv(8, 8, 4, sequential_mask(8, 4, 2), permute=False)
    small = condense(chain(layer, nn.ReLU()), images())
    assert small.condensed.indices == 0


def test_a_layer_that_is_not_pruned_becomes_a_standard_one():
    model = nn.Sequential(learned(nn.Conv2d(8, 8, 3)), LearnedGroupLinear(4, 4))
    small = condense(model, images(), fold=False)
    assert list(map(type, small)) == [nn.Conv2d, nn.Linear]


def reading(inputs: list[list[int]], channels=8, outputs=8) -> MaskedConv:
    """A layer whose groups read these inputs."""
    mask = torch.zeros(len(inputs), channels, dtype=torch.bool)
    for group, own in enumerate(inputs):
        mask[group, own] = True
    return MaskedConv(channels, outputs, 4, mask, permute=False)


def test_channels_that_nothing_reads_are_not_computed():
    first, depthwise = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=8)
    norms = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
    model = chain(first, norms[0], nn.ReLU(), depthwise, norms[1], reading([[0, 1], [1, 5]]))
    small = condense(model, images())
    assert channels_of(small) == [(8, 3), (3, 3), (4, 8)]
    assert small.condensed.dropped == 5
    assert_equal(small, model, images())


def test_groups_of_outputs_stay_equal_when_channels_are_dropped():
    model = chain(reading([[0], [1]]), nn.ReLU(), reading([[0], [1]]))
    small = condense(model, images())
    assert channels_of(small) == [(2, 4), (2, 8)]
    assert_equal(small, model, images())


@pytest.mark.parametrize(("returned", "outputs"), [(False, 3), (True, 8)])
def test_channels_of_a_sum_are_dropped_only_if_no_part_of_it_is_read_elsewhere(returned, outputs):
    layers = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), reading([[0, 1], [1, 5]])
    model = Branches(*layers, returned)
    small = condense(model, images())
    assert channels_of(small) == [(8, outputs), (8, outputs), (4, 8)]
    assert_equal(small, model, images())


def test_what_changes_a_tensor_in_place_does_not_change_it_for_others():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.one, self.two = pointwise(permute=True), pointwise(), nn.Conv2d(8, 8, 1)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.stem(x)
            return self.two(self.relu(x.clone())), self.one(x), self.relu(self.one(x)), x

    model = pruned(InPlace())
    small = condense(model, images())
    assert_equal(small, model, images())


class NormAsFunction(nn.BatchNorm2d):
    """A norm as timm has it: it asserts the rank, and calls a function."""

    def forward(self, x):
        torch._assert(x.ndim == 4, "must be 4D")
        statistics = self.running_mean, self.running_var
        return nn.functional.batch_norm(x, *statistics, self.weight, self.bias, self.training, 0.1, self.eps)


def test_norms_that_are_called_as_functions_are_folded():
    model = chain(pointwise(permute=True), NormAsFunction(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    small = condense(model, images())
    assert (small.condensed.indices, small.condensed.norms) == (1, 1)
    assert certify(model, small, images(), "noise").worst <= TOLERANCE


def test_a_layer_can_be_asked_for_the_type_of_its_weight():
    class Positions(nn.Sequential):
        def forward(self, x):
            return super().forward(x.to(self[0].weight.dtype)) + self[0].bias[0].to(self[0].weight.device)

    model = pruned(Positions(pointwise()))
    assert_equal(condense(model, images()), model, images())


def test_a_wrapped_model_is_condensed_as_what_it_wraps():
    model = chain(pointwise(), nn.ReLU())
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        certificate = certify(wrapped, condense(wrapped, images()), images(), "noise")
        assert certificate.passes
        assert certificate.layers[0].name == "0"


class Asking(nn.Sequential):
    """A network that asks for the value of a tensor."""

    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


def test_a_network_that_cannot_be_traced_is_condensed_in_place_and_says_why():
    model = pruned(Asking(pointwise(permute=True), nn.BatchNorm2d(8)))
    small = condense(model, images())
    assert type(small) is Asking
    assert "not traced: symbolically traced variables cannot be used" in str(small.condensed)
    assert "\n" not in str(small.condensed)
    assert_equal(small, model, -images())
    assert certify(model, small, images(), "noise").worst <= TOLERANCE


def test_arguments_that_the_example_leaves_out_keep_their_defaults():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = pointwise()

        def forward(self, x, mask=None, scale=2.0):
            return self.conv(x) * scale if mask is None else self.conv(x) * mask

    model = pruned(Optional())
    small = condense(model, images())
    assert small.condensed.reason is None
    assert_equal(small, model, images())


def test_outputs_keep_their_classes():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = pointwise()

        def forward(self, x):
            return OrderedDict(out=self.conv(x), parts=(x, [x]))

    small = condense(pruned(Nested()), images())
    assert small.condensed.reason is None
    assert type(small(images())) is OrderedDict


def test_a_layer_that_stands_in_two_places_is_replaced_in_both():
    layer = pointwise()
    model = chain(layer, nn.ReLU(), layer)
    small = condense(model, images())
    assert not masked_layers(small)
    assert_equal(small, model, images())


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("permute", [False, True])
def test_linear_layers_are_condensed_whatever_stands_before_their_features(groups, permute):
    model = nn.Sequential(LearnedGroupLinear(8, 12, 2, groups), nn.GELU(), nn.Linear(12, 4))
    model[0].permute = permute
    pruned(model)
    for x in (torch.randn(3, 8), torch.randn(2, 5, 8)):
        assert_equal(condense(model, x), model, x)


def test_a_model_that_is_one_masked_layer_is_condensed():
    model = pruned(pointwise(permute=True))
    assert_equal(condense(model, images()), model, images())


def test_condensing_leaves_the_model_alone():
    model = torchvision.models.mobilenet_v3_small()
    learn_groups(model)
    pruned(live_in(model)).train()
    before, modules = copy.deepcopy(model.state_dict()), dict(model.named_modules())
    small = condense(model, images(3, 32))
    assert model.training
    assert dict(model.named_modules()) == modules
    assert not small.training
    assert not any(own.requires_grad for own in small.parameters())
    for own in small.parameters():
        own.zero_()
    assert all(own.equal(before[name]) for name, own in model.state_dict().items())
    assert all(own.requires_grad for own in model.parameters())


def test_an_unfolded_network_can_be_trained_further_and_folded_then():
    model = chain(pointwise(), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)).train()
    small = condense(model, images(), fold=False)
    optimizer = torch.optim.SGD(small.parameters(), 0.01)
    small(images()).square().mean().backward()
    optimizer.step()
    folded = condense(small, images())
    assert folded.condensed.norms == 1
    assert_equal(folded, small, images())


def test_a_certificate_notices_one_wrong_weight():
    model = chain(pointwise(permute=True), nn.BatchNorm2d(8), nn.ReLU(), pointwise(seed=1))
    small = condense(model, images())
    next(small.parameters())[0] += 0.1
    certificate = certify(model, small, images(), "noise")
    assert certificate.layers[0].difference > TOLERANCE
    assert not certificate.passes


def test_a_certificate_says_that_a_layer_did_not_run():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.unused = pointwise(), pointwise()

        def forward(self, x):
            return self.conv(x)

    model = pruned(Unused())
    certificate = certify(model, condense(model, images()), images(), "noise")
    assert [layer.difference is None for layer in certificate.layers] == [False, True]
    assert certificate.passes
    assert certificate.macs == 6 * 6 * 8 * 2


def unequal() -> nn.Module:
    model = chain(pointwise())
    model[0].mask[1] = True
    return model


@pytest.mark.parametrize(
    ("model", "example", "error", "text"),
    [
        (nn.Linear(2, 2), None, TypeError, "Linear: only a CondenseNet can be condensed without an example"),
        (nn.Linear(2, 2), torch.ones(1, 2), ValueError, "Linear: has no masked layer"),
        (unequal(), images(), ValueError, r"0: groups keep \[2, 8, 2, 2\] inputs"),
        (chain(reading([[]] * 2)), images(), ValueError, "0: groups keep no inputs"),
        (nn.Sequential(UnstructuredConv(8, 8, 4)), images(), ValueError, "0: single weights are pruned"),
        (chain(pointwise()), "cat.png", TypeError, "example 'cat.png': must be a tensor or a tuple"),
        (
            chain(pointwise()),
            images(7),
            ValueError,
            r"example \(float32 \(2, 7, 6, 6\) on cpu\): the Sequential cannot",
        ),
        (chain(pointwise()), images().long(), ValueError, r"example \(int64 .*: the Sequential cannot read it"),
        (CondenseNet(small_model(), seed=0), images(7), ValueError, r"the CondenseNet cannot read it"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_bad_input_is_named_and_the_model_stays_as_it_is(model, example, error, text):
    before = copy.deepcopy(model)
    with pytest.raises(error, match=text):
        condense(model, example)
    assert repr(model) == repr(before)
    assert all(map(torch.equal, model.state_dict().values(), before.state_dict().values()))


def test_a_plan_is_for_a_condensenet():
    with pytest.raises(ValueError, match="plan: is for the kernels of a CondenseNet, not for a Sequential"):
        condense(chain(pointwise()), images(), plan="grouped")


def test_a_network_whose_masked_layer_is_read_otherwise_is_refused():
    class Reading(nn.Sequential):
        def forward(self, x):
            return torch.nn.functional.conv2d(x, self[0].weight + 1, self[0].bias)

    with pytest.raises(ValueError, match=r"Reading: .* once masked layers are replaced"):
        condense(pruned(Reading(pointwise())), images())


def test_a_condensenet_may_be_given_an_example():
    model = CondenseNet(small_model(), seed=0)
    size = model.config.image_size
    assert isinstance(condense(model, images(3, size)), CondenseNet)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.norm = pointwise(permute=True), pointwise(4, 8), nn.BatchNorm2d(8)

    def forward(self, x, y):
        z = self.norm(self.one(x)) + self.two(y)
        return {"pixels": z, "parts": (z.mean((2, 3)), y)}


@pytest.mark.parametrize("kind", [".pt2", ".onnx"])
def test_any_network_is_exported_and_its_file_gives_the_same(kind, tmp_path):
    model = pruned(live_in(TwoInputs()))
    example = images(), images(4)
    small = condense(model, example)
    exported = export_file(small, tmp_path / f"small{kind}", example, run(model, example))
    assert exported.passes
    assert (tmp_path / exported.file).stat().st_size == exported.bytes


def test_a_network_that_does_not_fit_a_file_is_refused(tmp_path):
    model = pruned(live_in(TwoInputs()))
    example = images(), images(4)
    small, reference = condense(model, example), run(model, example)
    with pytest.raises(ValueError, match="holds a CondenseNet; export a TwoInputs as"):
        export_file(small, tmp_path / "small.safetensors", example, reference)
    asking = condense(pruned(Asking(pointwise())), images())
    with pytest.raises(ValueError, match="Asking: cannot be exported for batches of any size"):
        export_file(asking, tmp_path / "small.pt2", images(), None)
    assert not list(tmp_path.iterdir())


def test_indices_are_counted():
    small = condense(chain(pointwise(), nn.ReLU()), images())
    assert small.condensed.indices == sum(isinstance(own, Index) for own in small.modules()) == 1
