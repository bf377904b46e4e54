"""Traditional pruning, the control of condensing: other moments and criteria, the same loop and final cost."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
import torch
from helpers.runs import small_model, small_run
from hypothesis import given, strategies as st

from condense_core import CondenseNet, RecipeConfig, RunConfig, Trainer, cost_table
from condense_core.condensation import importance, learned_layers, prune
from condense_core.config import PRUNINGS, RETRAINING
from condense_core.events import StageRecord
from condense_core.grouping import UnstructuredConv
from condense_core.learning.criteria import input_norms, scores
from condense_core.randomness import generator
from condense_core.stages import kept_inputs, stage_of
from condense_core.tables import CRITERIA


def pruned_run(pruning="condensing", criterion="l1", grouping="learned", **recipe) -> RunConfig:
    config = small_run(grouping=grouping)
    changed = dataclasses.replace(config.recipe, epochs=8, pruning=pruning, criterion=criterion, **recipe)
    return dataclasses.replace(config, recipe=changed)


def stages(config, digits) -> list[StageRecord]:
    return [record for record in Trainer(config, digits).run() if isinstance(record, StageRecord)]


@pytest.mark.parametrize("pruning", PRUNINGS)
@pytest.mark.parametrize(
    ("criterion", "grouping"),
    [*((criterion, "learned") for criterion in CRITERIA), ("l1", "unstructured"), ("random", "unstructured")],
)
def test_every_way_of_pruning_ends_at_the_same_cost(pruning, criterion, grouping, digits):
    records = stages(pruned_run(pruning, criterion, grouping), digits)
    condensed = cost_table(small_model())
    assert records[-1].macs == condensed.macs
    assert records[-1].params == condensed.params
    began = condensed if pruning == "at-start" else cost_table(small_model(), 0)
    assert records[0].macs == began.macs


def test_one_shot_prunes_a_network_that_was_trained_for_half_of_the_time(digits):
    records = stages(pruned_run("one-shot"), digits)
    assert [(record.stage, record.epoch) for record in records] == [(0, 0), (3, 4), (None, 8)]


def test_gradual_pruning_takes_the_third_quarter(digits):
    records = stages(pruned_run("gradual"), digits)
    assert [record.stage for record in records] == [0, 1, 2, 3, None]
    assert [record.epoch for record in records[1:4]] == pytest.approx([4, 4 + 2 / 3, 4 + 4 / 3], abs=1 / 3)


@given(st.integers(1, 12), st.sampled_from(PRUNINGS))
def test_stages_never_go_back_and_the_last_is_reached(factor, pruning):
    reached = [stage_of(Fraction(step, 200), factor, pruning) for step in range(200)]
    assert reached == sorted(reached)
    assert reached[0] == (factor - 1 if pruning == "at-start" else 0)
    assert reached[-1] == factor - 1
    if pruning in RETRAINING:
        assert reached[99] == 0


def test_a_network_that_is_pruned_later_trains_as_a_dense_one_until_then(digits):
    dense = dataclasses.replace(
        small_run(grouping="none", groups=1, condense_factor=1), recipe=RecipeConfig(epochs=4)
    )
    reference = Trainer(dense, digits)
    list(reference.run())
    config = pruned_run("one-shot", group_lasso=0.0)
    trainer = Trainer(config, digits)
    list(trainer.run(lambda: trainer.step == reference.total_steps))
    for name, parameter in reference.model.named_parameters():
        assert torch.equal(parameter, trainer.model.get_parameter(name)), name


def test_retraining_starts_a_cosine_of_its_own(digits):
    for rate, expected in ((None, 0.1), (0.01, 0.01)):
        trainer = Trainer(pruned_run("one-shot", retraining_rate=rate), digits)
        half = trainer.total_steps // 2
        rates = []
        for step in (0, half - 1, half, trainer.total_steps - 1):
            trainer.step = step
            rates.append(trainer.learning_rate)
        assert rates[0] == pytest.approx(0.1)
        assert rates[1] < 0.01 * 0.5
        assert rates[2] == pytest.approx(expected)
        assert rates[3] < 0.05 * expected


def test_one_shot_at_once_is_what_stage_by_stage_without_training_gives():
    one, other = (learned_layers(CondenseNet(small_model(), seed=0)) for _ in range(2))
    for name, layer in one.items():
        prune(layer, 3)
        for stage in range(4):
            prune(other[name], stage)
        assert torch.equal(layer.mask, other[name].mask)


def test_criteria_rank_by_what_they_say():
    model = CondenseNet(small_model(), seed=0)
    layer, norms = model.blocks.block2[1].conv1, input_norms(model)
    norm = norms["blocks.block2.1.conv1"]
    assert norm is model.blocks.block2[1].norm1
    torch.nn.init.normal_(norm.weight)

    def ranked(criterion, seed=0):
        return scores(layer, criterion, norm, generator(seed, "pruning"))

    weight = layer.weight.detach().view(-1, layer.groups, layer.in_channels)
    torch.testing.assert_close(ranked("l1"), weight.abs().sum(0))
    torch.testing.assert_close(ranked("l2"), weight.square().sum(0))
    for group in ranked("norm-scale"):
        assert torch.equal(group, norm.weight.detach().abs())
    assert torch.equal(ranked("random"), ranked("random"))
    assert not torch.equal(ranked("random"), ranked("random", seed=1))


def test_by_batch_norm_scale_all_groups_lose_the_same_inputs(digits):
    trainer = Trainer(pruned_run("one-shot", "norm-scale"), digits)
    list(trainer.run())
    for layer in learned_layers(trainer.model).values():
        assert torch.equal(layer.mask, layer.mask[:1].expand_as(layer.mask))


@given(st.integers(2, 20), st.integers(1, 5), st.integers(2, 5), st.integers(0, 9))
def test_single_weights_are_pruned_wherever_they_are_least(inputs, outputs, factor, seed):
    layer = UnstructuredConv(inputs, outputs, factor)
    torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(seed))
    weight = layer.weight.detach().abs().flatten()
    for stage in range(factor):
        prune(layer, stage)
        kept = outputs * kept_inputs(inputs, factor, stage)
        assert int(layer.mask.sum()) == kept
        assert set(layer.weight.flatten().nonzero().flatten().tolist()) == set(
            weight.topk(kept).indices.tolist()
        )


def test_importance_of_contiguous_groups_sums_over_their_own_outputs():
    weight = torch.arange(8.0).view(4, 2, 1, 1)
    assert importance(weight, 2, permute=False).tolist() == [[2, 4], [10, 12]]
    assert importance(weight, 2, permute=True).tolist() == [[4, 6], [8, 10]]


@pytest.mark.parametrize("criterion", ["l2", "norm-scale"])
def test_criteria_that_mean_nothing_for_single_weights_are_refused(criterion):
    with pytest.raises(ValueError, match=rf"criterion '{criterion}': single weights .* need l1 or random"):
        pruned_run(criterion=criterion, grouping="unstructured")


def test_what_came_later_leaves_the_names_of_older_runs():
    assert small_run().hash == "88ea1aa666"
    assert pruned_run("one-shot").hash != pruned_run().hash
