"""Training: the recipe, stages on the way, and runs that repeat and resume bit for bit."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from helpers.runs import small_model, small_run, train
from torch.nn import functional as F

from condense_core import CondenseNet, DataConfig, RecipeConfig, RunConfig, Trainer, cost_table
from condense_core.condensation import group_lasso
from condense_core.data import Shard, load
from condense_core.distributed import Shares
from condense_core.evaluation import evaluate
from condense_core.events import Diverged, EpochRecord, Result, StageEntry, StageRecord
from condense_core.grouping import LearnedGroupConv


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.snapshot().tensors.items()}


def assert_same_state(one, other) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("settings", [{}, {"grouping": "random", "connectivity": "block"}, {"dropout": 0.2}])
def test_two_runs_of_one_seed_are_equal_bit_for_bit(settings, digits):
    (one, records), (other, again) = (train(small_run(**settings), digits) for _ in range(2))
    assert_same_state(state(one), state(other))
    epochs = [[record for record in some if isinstance(record, EpochRecord)] for some in (records, again)]
    assert epochs[0] == epochs[1]
    third, _ = train(small_run(seed=1, **settings), digits)
    assert not torch.equal(state(third)["model.stem.weight"], state(one)["model.stem.weight"])


@pytest.mark.parametrize("settings", [{"classifier_pruning": True}, {"dropout": 0.2, "connectivity": "block"}])
def test_a_run_stopped_at_any_step_goes_on_to_the_same_end(settings, digits):
    config = small_run(**settings)
    whole, records = train(config, digits)
    for stop_at in range(1, whole.total_steps, 4):
        first = Trainer(config, digits)
        list(first.run(lambda trainer=first, stop=stop_at: trainer.step == stop))
        assert first.step == stop_at
        second = Trainer(config, digits)
        second.restore(first.snapshot())
        resumed = list(second.run())
        assert_same_state(state(second), state(whole))
        assert resumed[-1] == records[-1]
        assert_same_state(resumed[-1].outcomes, records[-1].outcomes)


def test_a_run_goes_on_from_each_stages_entry_to_the_same_end(digits):
    config = small_run()
    whole = Trainer(config, digits)
    entries = [whole.snapshot() for record in whole.run() if isinstance(record, StageEntry)]
    assert len(entries) == 4
    for entry in entries:
        fork = Trainer(config, digits)
        fork.restore(entry)
        list(fork.run())
        assert_same_state(state(fork), state(whole))


def test_stages_begin_where_the_paper_says_and_connections_fall_with_them(digits):
    trainer, records = train(small_run(), digits)
    stages = [record for record in records if isinstance(record, StageRecord)]
    assert [record.stage for record in stages] == [0, 1, 2, 3, None]
    assert [record.epoch for record in stages] == [0, 1, 2, 3, 6]
    model = small_run().model
    assert [record.macs for record in stages[:4]] == [cost_table(model, stage).macs for stage in range(4)]
    assert stages[0].before is None
    assert stages[2].before is not None
    for before, after in pairwise(stages):
        for name, mask in after.masks.items():
            assert not (mask & ~before.masks[name]).any()
    assert all(torch.equal(stages[3].masks[name], mask) for name, mask in stages[4].masks.items())
    for layer in trainer.model.modules():
        if isinstance(layer, LearnedGroupConv):
            dead = ~layer.mask.repeat(layer.out_channels // layer.groups, 1)
            assert not layer.weight[:, :, 0, 0][dead].any()
            assert not trainer.optimizer.state[layer.weight]["momentum_buffer"][:, :, 0, 0][dead].any()


def test_a_run_of_few_steps_still_prunes_every_stages_share(digits):
    recipe = RecipeConfig(epochs=1, batch_size=128)  # 2 steps: progress jumps over stages 1 and 2
    _, records = train(dataclasses.replace(small_run(), recipe=recipe), digits)
    stages = [record for record in records if isinstance(record, StageRecord)]
    assert [record.stage for record in stages] == [0, 1, 2, 3, None]
    assert stages[-1].macs == cost_table(small_run().model).macs


def test_training_macs_are_three_forward_passes_at_each_stages_cost(digits):
    _, records = train(small_run(), digits)
    model, images = small_run().model, 192
    by_stage = [cost_table(model, stage).macs for stage in range(4)]
    assert records[-1].training_macs == 3 * images * (sum(by_stage[:3]) + 3 * by_stage[3])


def test_a_step_is_the_papers_recipe(digits):
    config = small_run()
    trainer = Trainer(config, digits)
    steps = 4
    list(trainer.run(lambda: trainer.step == steps))

    reference = CondenseNet(config.model, config.seed).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(reference.parameters(), 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    batches = [batch for epoch in range(2) for batch in digits.training_batches(0, epoch, 64)]
    for step, (images, labels) in enumerate(batches[:steps]):
        if step == 3:  # the entry of stage 1
            break
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * 0.1 * (1 + math.cos(math.pi * step / trainer.total_steps))
        optimizer.zero_grad()
        (F.cross_entropy(reference(images), labels) + 1e-4 * group_lasso(reference)).backward()
        optimizer.step()
    before = Trainer(config, digits)
    list(before.run(lambda: before.step == 3))
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(before.model.get_parameter(name), parameter, rtol=1e-4, atol=1e-6)


def test_the_lasso_ends_with_the_last_stage(digits):
    _, records = train(small_run(), digits)
    lasso = [record.lasso for record in records if isinstance(record, EpochRecord)]
    assert all(lasso[:3])
    assert not any(lasso[3:])


def test_variants_of_one_seed_see_the_same_batches(digits):
    def first_batch(config):
        trainer = Trainer(config, digits)
        return next(trainer.dataset.training_batches(config.seed, 0, config.recipe.batch_size))[0]

    assert torch.equal(first_batch(small_run()), first_batch(small_run(grouping="random", growth=(8, 8, 8))))


def test_a_loss_that_is_not_finite_ends_the_run_with_its_epoch(digits):
    recipe = RecipeConfig(epochs=3, learning_rate=1e30)
    with pytest.raises(Diverged, match="not finite in epoch 1"):
        train(dataclasses.replace(small_run(), recipe=recipe), digits)


def test_a_network_learns_the_digits():
    data = load(DataConfig("digits"))
    config = RunConfig(small_model(), RecipeConfig(epochs=8), DataConfig("digits"))
    _, records = train(config, data)
    result = records[-1]
    assert isinstance(result, Result)
    assert result.test_images == 600
    assert result.test.error_percent < 15


def test_evaluation_counts_errors_and_keeps_the_mode(digits):
    model = CondenseNet(small_model(), seed=0).train()
    found = evaluate(model, digits.test.evaluation_batches())
    assert model.training
    images, labels = digits.test.normalise(digits.test.images), digits.test.labels
    with torch.no_grad():
        logits = model.eval()(images)
    assert found.error_percent == pytest.approx(100 * (logits.argmax(1) != labels).double().mean().item())
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)
    top5 = (logits.topk(5).indices == labels[:, None]).any(1)
    assert found.top5_error_percent == pytest.approx(100 - 100 * top5.double().mean().item())


def test_data_that_does_not_fit_the_network_is_refused(digits):
    with pytest.raises(ValueError, match="num_classes 5: the data has 10 classes"):
        Trainer(small_run(num_classes=5), digits)
    with pytest.raises(ValueError, match="image_size 16: the data's images have 8 pixels"):
        Trainer(small_run(image_size=16), digits)


def test_a_checkpoint_of_another_network_is_refused_by_the_tensor_that_differs(digits):
    snapshot = Trainer(small_run(), digits).snapshot()
    other = Trainer(small_run(num_classes=20), digits)
    message = r"checkpoint: model.classifier.weight must have shape \(20, 44\), but it has shape \(10, 44\)"
    with pytest.raises(ValueError, match=message):
        other.restore(snapshot)


def test_a_batch_on_several_ranks_counts_the_images_of_all_of_them():
    shares = Shares(Shard(1, 2), images=193, batch_size=64, steps_per_epoch=3)  # one image is left out
    assert [shares.whole_batch(32, step) for step in range(6)] == [64] * 6
    shares = Shares(Shard(1, 2), images=150, batch_size=64, steps_per_epoch=3)
    assert [shares.whole_batch(11, step) for step in range(4)] == [64, 64, 22, 64]
    assert Shares(Shard(), images=150, batch_size=64, steps_per_epoch=3).whole_batch(7, 0) == 7
