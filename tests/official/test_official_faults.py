"""What docs/official.md calls faults of the official code: shown on it, where it is at hand, not on ours."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from helpers.networks import lived_in
from helpers.official import converted, measured, needs_official, official_model, official_module, save
from helpers.paths import ROOT
from helpers.runs import small_run, train

from condense_core import CondenseNet, RecipeConfig, Trainer, condense, cost_table, load_official
from condense_core.deploy.outputs import relative_difference
from condense_core.evaluation import evaluate
from condense_core.events import EpochRecord

TINY = {"stages": [1, 1, 1], "growth": [8, 8, 8]}
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("groups", "factor"), [(4, 8), (4, 2), (2, 4)])
def test_the_lasso_ends_by_the_condense_factor_whatever_the_groups(groups, factor, digits):
    config = small_run(groups=groups, condense_factor=factor)
    config = dataclasses.replace(config, recipe=RecipeConfig(epochs=14, group_lasso=1e-4))
    _, records = train(config, digits)
    epochs = [record for record in records if isinstance(record, EpochRecord)]
    assert {record.stage for record in epochs if record.lasso > 0} == set(range(factor - 1))


@needs_official
def test_the_official_lasso_ends_by_the_groups():
    layer = official_model(stage=3, condense_factor=8, **TINY).features.denseblock_1.denselayer_1.conv_1
    assert (layer.stage, layer.lasso_loss) == (3, 0)
    layer = official_model(condense_factor=2, **TINY).features.denseblock_1.denselayer_1.conv_1
    assert layer.stage == 1
    assert layer.lasso_loss > 0


@needs_official
def test_the_official_code_drops_one_slice_where_progress_jumps_over_stages():
    model = official_model(stage=0, **TINY).eval()
    model(IMAGES, 0.9)
    layer = model.features.denseblock_1.denselayer_1.conv_1
    assert (layer.stage, layer._mask.mean()) == (3, 0.75)


@needs_official
def test_the_official_conversion_of_an_unfinished_network_loses_connections_and_ours_does_not(tmp_path):
    official = official_model(stage=1)
    small = converted(official)
    ours = load_official(save(official, tmp_path / "m.pth.tar")).eval()
    with torch.no_grad():
        reference = official.eval()(IMAGES)
        features = official.features(IMAGES).flatten(1)
        assert relative_difference(small.features(IMAGES).flatten(1), features) > 0.01
        assert relative_difference(condense(ours)(IMAGES), reference) < 1e-5


@needs_official
def test_the_official_cost_is_the_last_stages_at_every_stage_and_ours_is_that_of_the_masks(tmp_path):
    first = official_model(stage=1)
    path, figures = save(first, tmp_path / "m.pth.tar"), measured(first)
    assert figures == measured(official_model())
    ours = load_official(path)
    assert cost_table(ours).macs == cost_table(ours.config, 1).macs > cost_table(ours.config).macs


@needs_official
def test_a_second_official_network_starts_where_the_first_one_ended():
    official_model(**TINY)
    layers = official_module("layers")
    assert layers.LearnedGroupConv.global_progress == 0.75
    layers_of_the_next = official_module("models").condensenet(_arguments())
    layers_of_the_next.eval()(IMAGES, 0.0)
    assert layers_of_the_next.features.denseblock_1.denselayer_1.conv_1.stage == 3


def _arguments():
    from helpers.official import arguments

    return arguments(**TINY)


def test_a_second_network_of_ours_starts_dense_and_evaluation_prunes_nothing(digits):
    first, _ = train(small_run(), digits)
    second = CondenseNet(small_run().model, seed=1)
    evaluate(second, digits.test.evaluation_batches())
    assert all(layer.mask.all() for layer in second.modules() if hasattr(layer, "mask"))
    assert not first.model.blocks.block1[0].conv1.mask.all()


def test_a_pruned_classifier_is_trained_further(digits):
    trainer = Trainer(small_run(classifier_pruning=True), digits)
    for record in trainer.run():
        if getattr(record, "stage", None) == 3 and hasattr(record, "masks"):
            cut = trainer.model.classifier.weight.detach().clone()
    classifier = trainer.model.classifier
    live = classifier.mask.expand_as(cut)
    assert int(classifier.mask.sum()) == classifier.in_features // 2
    assert (classifier.weight[live] != cut[live]).all()
    assert (classifier.weight[~live] == 0).all()


@needs_official
def test_the_official_conversion_cuts_the_classifier_and_changes_the_outputs(tmp_path):
    official = official_model()
    small = converted(official)
    with torch.no_grad():
        assert relative_difference(small.eval()(IMAGES), official.eval()(IMAGES)) > 0.01
        ours = load_official(save(official, tmp_path / "m.pth.tar")).eval()
        assert relative_difference(condense(ours)(IMAGES), official(IMAGES)) < 1e-5


@needs_official
def test_the_official_lasso_counts_a_constant_for_what_is_dropped():
    layer = official_model(stage=2, **TINY).features.denseblock_1.denselayer_1.conv_1
    weight = (layer.conv.weight * layer._mask).squeeze().view(-1, 4, 16)
    live = weight.square().sum(0).sqrt()
    dropped = int((layer._mask[:4] == 0).sum())
    assert layer.lasso_loss.item() == pytest.approx(live.sum().item() + 1e-3 * dropped, rel=1e-4)


@needs_official
def test_dropped_weights_of_the_official_code_live_on_under_the_mask_and_ours_are_gone():
    official = official_model(**TINY).features.denseblock_1.denselayer_1.conv_1
    assert (official.conv.weight != 0).all()
    ours = lived_in(small_run().model).blocks.block1[0].conv1
    assert (ours.weight != 0).float().mean() == ours.mask.float().mean()


def test_the_result_is_of_the_last_weights_and_the_test_images_are_used_for_nothing_else(digits, monkeypatch):
    seen = []
    kind = type(digits.test)
    original = kind.evaluation_batches
    monkeypatch.setattr(kind, "evaluation_batches", lambda self: seen.append(self) or original(self))
    trainer, records = train(small_run(), digits)
    assert sum(split is trainer.dataset.test for split in seen) == 1
    assert evaluate(trainer.model, original(digits.test)) == records[-1].test


def test_every_fault_that_the_document_names_has_its_tests():
    text = (ROOT / "docs" / "official.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    there = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        there |= set(re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE))
    assert len(named) >= 10
    assert named <= there, named - there
