"""Masks taken from another run, weights of another seed, and pruning before the first step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.runs import small_model, small_run, train

from condense_core import CondenseNet, RecipeConfig, RunConfig
from condense_core.condensation import importance, prune_mask
from condense_core.config import MasksConfig
from condense_core.events import EpochRecord, Result, StageRecord
from condense_core.grouping import masked_layers
from condense_core.masks import fingerprint, shuffled
from condense_core.topology import layers
from condense_core.validation import from_dict, to_dict

TAKEN = MasksConfig("learned-exponential-full-k4-s0-0123456789")


def masks_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: layer.mask.clone() for name, layer in masked_layers(model).items()}


def taking(config: RunConfig, masks: MasksConfig = TAKEN, **settings) -> RunConfig:
    """Return the run of a configuration that takes its masks from another run."""
    return replace(config, model=replace(config.model, grouping="given"), masks=masks, **settings)


def numbers(records: list) -> list:
    """The curves and the result of a run."""
    return [record for record in records if isinstance(record, EpochRecord | Result)]


@pytest.fixture(scope="module")
def learned(digits):
    """A run that learned its masks."""
    config = small_run()
    return config, *train(config, digits)


@pytest.mark.parametrize("execution", ["reference", "fast"])
def test_masks_of_ones_without_pruning_give_the_dense_network(execution, digits):
    given = small_run(condense_factor=1, grouping="learned")
    dense = replace(
        small_run(grouping="none", groups=1, condense_factor=1), execution=execution, initial_seed=7
    )
    ones = masks_of(CondenseNet(given.model, 0))
    assert all(mask.all() for mask in ones.values())
    replay = replace(taking(given), execution=execution, initial_seed=7)
    (one, records), (other, again) = train(replay, digits, ones), train(dense, digits)
    assert len(numbers(records)) == 7
    for name, weight in other.model.named_parameters():
        own = one.model.get_parameter(name)
        assert torch.equal(own, weight) if execution == "reference" else torch.allclose(own, weight, atol=1e-4)
    if execution == "reference":
        assert [record.curves for record in numbers(records)[:-1]] == [
            record.curves for record in numbers(again)[:-1]
        ]


def test_given_masks_hold_from_the_first_step_to_the_last_and_zero_what_they_leave_out(learned, digits):
    config, trained, _ = learned
    masks = masks_of(trained.model)
    trainer, records = train(taking(config), digits, masks)
    stages = [record for record in records if isinstance(record, StageRecord)]
    assert [record.stage for record in stages] == [0, None]
    for record in stages:
        assert record.masks.keys() == masks.keys()
        assert all(torch.equal(record.masks[name], mask) for name, mask in masks.items())
    assert len({record.macs for record in stages}) == 1
    for name, layer in masked_layers(trainer.model).items():
        read = layer.weight.detach()[:, :, 0, 0].abs().view(-1, layer.groups, layer.weight.shape[1]).sum(0)
        assert torch.equal(read > 0, masks[name])


def test_the_fast_execution_trains_given_masks_as_the_reference_does(learned, digits):
    config, trained, _ = learned
    masks = masks_of(trained.model)
    short = replace(taking(config), recipe=RecipeConfig(epochs=1))
    one, other = (
        numbers(train(replace(short, execution=execution), digits, masks)[1])[0]
        for execution in ("reference", "fast")
    )
    assert one.train_loss == pytest.approx(other.train_loss, rel=1e-3)
    assert one.macs == other.macs


def test_initial_weights_of_another_seed_change_the_weights_alone(learned):
    config, trained, _ = learned
    masks, model = masks_of(trained.model), taking(config).model
    own, other, theirs = (CondenseNet(model, *seeds) for seeds in ((0, masks), (0, masks, 5), (5, masks)))
    assert torch.equal(other.stem.weight, theirs.stem.weight)
    assert not torch.equal(own.stem.weight, other.stem.weight)
    drawn = replace(model, grouping="random")
    assert all(
        torch.equal(mask, masks_of(CondenseNet(drawn, 0))[name])
        for name, mask in masks_of(CondenseNet(drawn, 0, None, 5)).items()
    )


def test_replay_starts_with_the_learned_runs_weights_under_its_mask(learned):
    config, trained, _ = learned
    masks = masks_of(trained.model)
    replay, dense = CondenseNet(taking(config).model, 0, masks), CondenseNet(config.model, 0)
    for name, weight in dense.named_parameters():
        own = replay.get_parameter(name)
        live = own != 0 if name.removesuffix(".weight") in masks else torch.ones_like(own, dtype=torch.bool)
        assert torch.equal(own[live], weight[live])


@pytest.mark.parametrize("connectivity", ["full", "block"])
def test_shuffled_masks_have_the_same_shares_of_every_source_and_other_channels(connectivity):
    model = small_model(connectivity=connectivity, stages=(2, 2, 2))
    masks = masks_of(CondenseNet(replace(model, grouping="independent"), 3))
    drawn, again, other = (shuffled(masks, model, seed) for seed in (0, 0, 1))
    assert fingerprint(drawn) == fingerprint(again) != fingerprint(other)
    backwards = dict(reversed(masks.items()))  # a file has them in any order
    assert fingerprint(shuffled(backwards, model, 0)) == fingerprint(drawn)
    assert fingerprint(masks) not in (fingerprint(drawn), fingerprint(other))
    for layer in layers(model):
        if layer.name in masks:
            for source in layer.sources:
                part = slice(source.start, source.stop)
                assert torch.equal(drawn[layer.name][:, part].sum(1), masks[layer.name][:, part].sum(1))


def test_at_the_start_the_scores_of_the_initial_weights_decide(digits):
    config = replace(small_run(), recipe=RecipeConfig(epochs=2, pruning="at-start"))
    initial = masked_layers(CondenseNet(config.model, config.seed))
    _, records = train(config, digits)
    stages = [record for record in records if isinstance(record, StageRecord)]
    assert [(record.stage, record.step) for record in stages] == [(3, 0), (None, 6)]
    for name, layer in initial.items():
        scores, kept = importance(layer.weight, layer.groups), -(-layer.mask.shape[1] // 4)
        assert torch.equal(stages[0].masks[name], prune_mask(scores, layer.mask, kept))
        assert torch.equal(stages[1].masks[name], stages[0].masks[name])
    rates = [record.learning_rate for record in records if isinstance(record, EpochRecord)]
    assert rates == [pytest.approx(0.05), pytest.approx(0)]  # one cosine: nothing is trained again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda masks: {}, "masks: that of blocks.block1.0.conv1 must be bool"),
        (lambda masks: {name: mask[:, 1:] for name, mask in masks.items()}, "must be bool"),
        (lambda masks: {name: mask.float() for name, mask in masks.items()}, "must be bool"),
        (lambda masks: {name: torch.ones_like(mask) for name, mask in masks.items()}, "True in each row"),
    ],
)
def test_masks_of_another_network_are_refused(change, message, learned, digits):
    config, trained, _ = learned
    with pytest.raises(ValueError, match=message):
        train(taking(config), digits, change(masks_of(trained.model)))


def test_the_source_of_masks_and_the_seed_of_weights_are_part_of_a_runs_name():
    given = taking(small_run())
    others = [taking(small_run(), replace(TAKEN, shuffled=True)), taking(small_run(), MasksConfig("another"))]
    names = {config.name for config in (given, *others, replace(given, initial_seed=1))}
    assert len(names) == 4
    assert given.needs == (TAKEN.run,)
    assert small_run().needs == ()
    assert replace(small_run(), initial_seed=None).name == small_run().name
    assert from_dict(RunConfig, to_dict(given)) == given
    assert from_dict(RunConfig, to_dict(small_run())) == small_run()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small_run(grouping="given"), "grouping 'given': needs the masks of a run"),
        (lambda: replace(small_run(), masks=TAKEN), "grouping 'learned': must be 'given'"),
        (lambda: MasksConfig(""), "run"),
        (lambda: from_dict(RunConfig, to_dict(small_run()) | {"masks": {"ran": "x"}}), "unknown setting 'ran'"),
    ],
)
def test_bad_sources_of_masks_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
