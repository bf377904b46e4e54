"""Groups of 1×1 convolutions and their condensation (paper Sec. 3.1)."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from condense_core.condensation import LASSO_FLOOR, group_lasso, importance, prune, prune_mask
from condense_core.grouping import (
    LearnedGroupConv,
    LearnedGroupLinear,
    conv1x1,
    dense,
    weight_mask,
)
from condense_core.masks import independent_mask, random_mask, sequential_mask
from condense_core.randomness import generator
from condense_core.stages import kept_inputs, stage_of
from condense_core.tables import GROUPINGS, Grouping

sizes = st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(1, 7))  # in_channels, G, C


def learned(in_channels: int, groups: int, factor: int, seed: int = 0) -> LearnedGroupConv:
    layer = LearnedGroupConv(in_channels, groups * 3, groups, factor)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(seed))
    return layer


@given(sizes, st.integers(0, 99))
def test_every_group_keeps_the_same_number_of_inputs_in_every_stage(size, seed):
    in_channels, groups, factor = size
    layer = learned(*size, seed)
    before = layer.mask.clone()
    for stage in range(factor):
        prune(layer, stage)
        expected = math.ceil(in_channels * (factor - stage) / factor)
        assert layer.mask.sum(1).tolist() == [expected] * groups
        assert not (layer.mask & ~before).any(), "a dropped connection came back"
        before = layer.mask.clone()


@given(sizes, st.integers(0, 99))
def test_what_is_dropped_is_least_important_among_the_living(size, seed):
    layer = learned(*size, seed)
    for stage in range(size[2]):
        alive, score = layer.mask.clone(), importance(layer.weight, layer.groups)
        prune(layer, stage)
        for group in range(layer.groups):
            dropped = score[group][alive[group] & ~layer.mask[group]]
            kept = score[group][layer.mask[group]]
            assert not len(dropped) or dropped.max() <= kept.min()


def test_jumping_to_the_last_stage_prunes_every_share():
    layer = learned(16, 4, 4)
    prune(layer, 3)
    assert layer.mask.sum(1).tolist() == [4] * 4


def test_ties_drop_the_lower_index():
    mask = prune_mask(torch.ones(2, 6), torch.ones(2, 6, dtype=torch.bool), 2)
    assert mask.tolist() == [[False] * 4 + [True] * 2] * 2


def test_keeping_more_than_is_alive_is_refused():
    mask = torch.tensor([[True, False, False]])
    with pytest.raises(ValueError, match="kept 2: must be at most the 1"):
        prune_mask(torch.ones(1, 3), mask, 2)


def test_importance_sums_over_the_outputs_of_each_group():
    weight = torch.arange(12.0).view(6, 2, 1, 1) - 5  # outputs 0, 2, 4 are group 0
    flat = weight.abs().view(6, 2)
    expected = torch.stack([flat[0] + flat[2] + flat[4], flat[1] + flat[3] + flat[5]])
    assert torch.equal(importance(weight, 2), expected)


def test_what_is_pruned_loses_weight_momentum_and_gradient_for_good():
    layer = learned(8, 2, 4)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=1e-2)

    def step() -> None:
        optimizer.zero_grad()
        (layer(torch.randn(2, 8, 3, 3)).square().mean() + 1e-2 * group_lasso(layer)).backward()
        optimizer.step()

    step()
    prune(layer, 2, optimizer.state[layer.weight]["momentum_buffer"])
    dead = ~weight_mask(layer.mask, layer.out_channels)[:, :, None, None]
    for _ in range(3):
        step()
        assert layer.weight.grad is not None
        for tensor in (layer.weight, layer.weight.grad, optimizer.state[layer.weight]["momentum_buffer"]):
            assert not tensor[dead].any()
    assert layer.weight[~dead].all()


@given(sizes, st.integers(0, 99))
def test_the_lasso_is_the_formula(size, seed):
    layer = learned(*size, seed)
    prune(layer, size[2] // 2)
    total = 0.0
    weight = layer.weight.detach().double()
    for group in range(layer.groups):
        for j in range(layer.in_channels):
            if layer.mask[group, j]:
                squared = sum(weight[o, j, 0, 0] ** 2 for o in range(group, layer.out_channels, layer.groups))
                total += math.sqrt(max(squared, LASSO_FLOOR))
    assert group_lasso(layer).item() == pytest.approx(total, rel=1e-5)


def test_the_lasso_of_a_weight_at_zero_has_a_finite_gradient():
    layer = LearnedGroupConv(4, 4, 2, 2)
    nn.init.zeros_(layer.weight)
    group_lasso(layer).backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()


@given(st.integers(2, 8))
def test_stages_share_the_first_half_and_the_last_has_the_second(factor):
    for stage in range(factor - 1):
        entry = Fraction(stage, 2 * (factor - 1))
        assert stage_of(entry, factor) == stage
        assert stage_of(entry + Fraction(1, 10**9), factor) == stage
        if stage:
            assert stage_of(entry - Fraction(1, 10**9), factor) == stage - 1
    assert stage_of(Fraction(1, 2), factor) == stage_of(0.999, factor) == factor - 1


@given(sizes)
def test_fixed_groups_read_their_share_and_sequential_ones_in_a_row(size):
    in_channels, groups, factor = size
    kept = kept_inputs(in_channels, factor, factor - 1)
    mask = sequential_mask(in_channels, groups, kept)
    assert mask.sum(1).tolist() == [kept] * groups
    for group in range(groups):
        first = group * in_channels // groups
        assert all(mask[group, (first + i) % in_channels] for i in range(kept))
    drawn = random_mask(in_channels, groups, kept, generator(0, "test"))
    assert drawn.sum(1).tolist() == [kept] * groups
    assert sorted(map(tuple, drawn.T.tolist())) == sorted(map(tuple, mask.T.tolist()))


@given(sizes, st.integers(0, 99))
def test_independent_groups_each_read_their_share(size, seed):
    in_channels, groups, factor = size
    kept = kept_inputs(in_channels, factor, factor - 1)
    mask = independent_mask(in_channels, groups, kept, generator(seed, "test"))
    assert mask.sum(1).tolist() == [kept] * groups


def test_independent_groups_read_an_input_as_often_as_chance_has_it():
    masks = torch.stack([independent_mask(32, 4, 8, generator(seed, "test")) for seed in range(400)])
    readers = masks.sum(1).flatten().bincount(minlength=5) / (400 * 32)
    expected = [math.comb(4, k) * 0.25**k * 0.75 ** (4 - k) for k in range(5)]  # each group reads it or not
    assert readers.tolist() == pytest.approx(expected, abs=0.02)
    covering = torch.stack([random_mask(32, 4, 8, generator(seed, "test")) for seed in range(20)])
    assert (covering.sum(1) == 1).all()


def test_sequential_groups_are_the_standard_grouped_convolution():
    layer = conv1x1(12, 8, "sequential", 4, 4, generator(0, "test"))
    nn.init.normal_(layer.weight)
    x = torch.randn(2, 12, 3, 3)
    grouped = nn.Conv2d(12, 8, 1, groups=4, bias=False)
    for group in range(4):  # output o is in group o mod G here, in group o // 2 there
        ours = layer.weight[group::4, 3 * group : 3 * group + 3]
        grouped.weight.data[2 * group : 2 * group + 2] = ours.data
    expected = grouped(x).view(2, 4, 2, 3, 3).transpose(1, 2).reshape(2, 8, 3, 3)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("grouping", ["random", "independent"])
def test_random_groups_depend_on_the_seed_alone(grouping):
    masks = [conv1x1(32, 8, grouping, 4, 4, generator(seed, "grouping")).mask for seed in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_a_pruned_classifier_keeps_the_half_with_the_largest_columns():
    layer = LearnedGroupLinear(5, 3)
    prune(layer, 1)
    score = layer.weight.abs().sum(0)
    assert layer.mask.sum() == 3
    assert score[layer.mask[0]].min() > 0
    assert not layer.weight[:, ~layer.mask[0]].any()


kernels = st.fixed_dictionaries(
    {
        "kernel_size": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "stride": st.integers(1, 2),
        "padding": st.integers(0, 2),
        "dilation": st.integers(1, 2),
        "bias": st.booleans(),
        "padding_mode": st.sampled_from(["zeros", "reflect", "circular"]),
    }
)


@given(sizes, kernels, st.booleans(), st.integers(0, 99))
def test_a_kernel_of_any_size_is_kept_or_dropped_whole(size, kernel, permute, seed):
    (inputs, groups, factor), outputs = size, 2 * size[1]
    torch.manual_seed(seed)
    layer = LearnedGroupConv(inputs, outputs, groups, factor, permute, **kernel)
    weight, bias = layer.weight.detach().clone(), layer.bias
    score = torch.zeros(groups, inputs)
    squared = torch.zeros(groups, inputs)
    group_of = [o % groups if permute else o // 2 for o in range(outputs)]
    for output, group in enumerate(group_of):
        score[group] += weight[output].abs().sum((1, 2))
        squared[group] += weight[output].square().sum((1, 2))
    torch.testing.assert_close(importance(layer.weight, groups, permute), score)
    prune(layer, factor - 1)
    for group in range(groups):
        alive = layer.mask[group]
        assert alive.sum() == kept_inputs(inputs, factor, factor - 1)
        assert not (~alive).any() or score[group][~alive].max() <= score[group][alive].min() + 1e-5
    lasso = (squared.clamp(min=LASSO_FLOOR).sqrt() * layer.mask).sum()
    torch.testing.assert_close(group_lasso(layer), lasso)

    plain = nn.Conv2d(inputs, outputs, **kernel)
    plain.weight.data = torch.stack(
        [w * layer.mask[g][:, None, None] for w, g in zip(weight, group_of, strict=True)]
    )
    plain.bias = bias
    x = torch.randn(2, inputs, 7, 6)
    assert torch.equal(layer(x), plain(x))


@given(sizes, st.integers(0, 99))
def test_a_linear_layer_of_several_groups_prunes_as_a_1x1_convolution(size, seed):
    (inputs, groups, factor) = size
    conv = learned(inputs, groups, factor, seed)
    linear = LearnedGroupLinear(inputs, conv.out_channels, factor, groups)
    linear.weight.data = conv.weight.data.flatten(1).clone()
    for stage in range(factor):
        for layer in (conv, linear):
            prune(layer, stage)
        assert torch.equal(linear.mask, conv.mask)
        assert torch.equal(linear.weight, conv.weight.flatten(1))
    x = torch.randn(5, inputs)
    torch.testing.assert_close(linear(x) - linear.bias, conv(x[:, :, None, None]).flatten(1))


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        ({}, "exactly one of mask and layer"),
        ({"mask": random_mask, "layer": LearnedGroupConv}, "exactly one of mask and layer"),
        ({"mask": random_mask, "is_learned": True}, "is_learned needs a layer"),
    ],
)
def test_a_grouping_is_one_function(functions, words):
    with pytest.raises(ValueError, match=words):
        Grouping("toy", **functions)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Grouping("toy", layer=LearnedGroupConv), "is_learned is False, but its layer is a LearnedGroupConv"),
        (Grouping("toy", layer=dense, is_learned=True), "is_learned is True, but its layer is a Conv2d"),
        (Grouping("toy", mask=lambda *_: [[True]]), "mask must be bool"),
        (Grouping("toy", mask=lambda *_: torch.ones(4, 8)), "mask must be bool"),
        (Grouping("toy", mask=lambda *_: torch.ones(4, 8, dtype=torch.bool)), "2 True in each row"),
    ],
)
def test_a_grouping_that_does_not_do_what_its_entry_says_is_refused(entry, words):
    GROUPINGS.add("toy", entry)
    try:
        with pytest.raises(ValueError, match=f"grouping 'toy'.*{words}"):
            conv1x1(8, 16, "toy", 4, 4, torch.Generator())
    finally:
        GROUPINGS.remove("toy")
