"""Official checkpoints give the official numbers, and bad files one line."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from helpers.networks import lived_in
from helpers.official import (
    CHECKPOINTS,
    converted,
    measured,
    needs_checkpoints,
    needs_official,
    official_model,
    save,
)
from helpers.runs import small_model

from condense_core import DataConfig, RecipeConfig, RunConfig, Trainer, condense, cost_table, load_official
from condense_core.data import load
from condense_core.deploy.outputs import relative_difference
from condense_core.grouping import live_weights, masked_layers
from condense_core.official import official_snapshot
from condense_core.official.tensors import official_parts

DIGITS = DataConfig("digits", train_images=192)
TINY = {"stages": [1, 1, 1], "growth": [8, 8, 8]}


@torch.no_grad()
def assert_same_logits(ours, theirs, size=32, **arguments):
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    assert relative_difference(ours.eval()(images), theirs.eval()(images, **arguments)) <= 1e-5


@needs_checkpoints
@pytest.mark.parametrize(
    ("file", "logits"),
    [("condensenet50_c4g4", "logits"), ("converted_condensenet50_c4g4", "converted_logits")],
)
def test_a_checkpoint_of_the_official_code_gives_its_logits(file, logits):
    expected = np.load(CHECKPOINTS / "condensenet50_c4g4.npz")
    model = load_official(CHECKPOINTS / f"{file}.pth.tar").eval()
    with torch.no_grad():
        outputs = model(torch.from_numpy(expected["images"]))
    assert relative_difference(outputs, torch.from_numpy(expected[logits])) <= 1e-5
    assert (model.config.stages, model.config.growth) == ((8, 8, 8), (8, 16, 32))
    if logits == "logits":
        table = cost_table(model)
        assert (table.flops_paper, table.params) == (expected["official_flops"], expected["official_params"])


@needs_official
@pytest.mark.parametrize("name", ["condensenet", "densenet_LGC"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"condense_factor": 8},
        {"condense_factor": 2},
        {"group_1x1": 2, "group_3x3": 1, "num_classes": 100},
        {"group_1x1": 8, "condense_factor": 4, "growth": [8, 16, 16], "bottleneck": 2},
    ],
    ids=str,
)
def test_masked_and_converted_networks_of_any_size_give_the_official_numbers(tmp_path, name, settings):
    official = official_model(name, **settings)
    ours = load_official(save(official, tmp_path / "m.pth.tar"))
    assert_same_logits(ours, official)
    table = cost_table(ours)
    assert (table.flops_paper, table.params) == measured(official)
    assert ours.config.condense_factor == settings.get("condense_factor", 4)
    assert ours.config.groups == settings.get("group_1x1", 4)
    small = converted(official)
    back = load_official(save(small, tmp_path / "c.pth.tar"))
    assert_same_logits(back, small)
    table = cost_table(condense(back, fold=False))
    assert (table.flops_paper, table.params) == measured(small)


@needs_official
@pytest.mark.parametrize("groups", [(1, 1), (1, 4), (4, 4), (2, 4)])
def test_densenets_of_the_official_code_load_with_and_without_groups(tmp_path, groups):
    official = official_model("densenet", 0, group_1x1=groups[0], group_3x3=groups[1])
    ours = load_official(save(official, tmp_path / "d.pth.tar"))
    assert ours.config.grouping == ("none" if groups[0] == 1 else "sequential")
    assert_same_logits(ours, official)
    assert_same_logits(condense(ours), official)
    table = cost_table(ours)
    assert (table.flops_paper, table.params) == measured(official)
    small = converted(official)
    assert_same_logits(load_official(save(small, tmp_path / "c.pth.tar")), small)


@needs_official
def test_the_stem_of_an_imagenet_network_has_stride_two_unless_told(tmp_path):
    settings = {"stages": [1, 1, 1, 1, 1], "growth": [8] * 5, "num_classes": 1000, "data": "imagenet"}
    official = official_model(**settings)
    path = save(official, tmp_path / "i.pth.tar")
    ours = load_official(path)
    assert (ours.config.stride, ours.config.image_size) == (2, 224)
    assert_same_logits(ours, official, size=224)
    assert load_official(path, stem_stride=1).config.stride == 1


@needs_official
def test_what_no_tensor_shows_is_asked_for(tmp_path):
    path = save(official_model(stage=0), tmp_path / "m.pth.tar")
    with pytest.raises(ValueError, match=r"m\.pth\.tar: .*groups and condense_factor; give groups=…"):
        load_official(path)
    model = load_official(path, groups=4, condense_factor=8)
    assert (model.config.groups, model.config.condense_factor) == (4, 8)


@needs_official
def test_a_network_that_jumped_over_stages_is_asked_for_its_factor(tmp_path):
    official = official_model(stage=0).eval()
    official(torch.zeros(1, 3, 32, 32), 0.9)  # the stage is 3 then, but one slice of four was dropped
    path = save(official, tmp_path / "m.pth.tar")
    with pytest.raises(ValueError, match="do not show condense_factor; give condense_factor=…"):
        load_official(path)
    assert_same_logits(load_official(path, condense_factor=4), official)


@needs_official
@pytest.mark.parametrize("stage", [1, 2])
def test_groups_and_factor_are_read_off_masks_in_the_middle_of_training(tmp_path, stage):
    official = official_model(stage=stage, condense_factor=4, group_1x1=2)
    ours = load_official(save(official, tmp_path / "m.pth.tar"))
    assert (ours.config.groups, ours.config.condense_factor) == (2, 4)
    assert_same_logits(ours, official)


@needs_official
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"groups": 8}, "its masks have groups 4, not 8"),
        ({"condense_factor": 2}, "_mask has dropped 4 of 16 inputs by stage 1: not with condense_factor 2"),
        ({"condense_factor": 8}, "not with condense_factor 8"),
    ],
)
def test_what_is_given_must_agree_with_the_masks(tmp_path, given, message):
    path = save(official_model(stage=1, **TINY), tmp_path / "m.pth.tar")
    with pytest.raises(ValueError, match=message):
        load_official(path, **given)
    assert load_official(path, groups=4, condense_factor=4).config.condense_factor == 4


@needs_official
@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ({"epoch": 7}, "epoch 7 leaves nothing of the run's 8 epochs"),
        ({"epoch": -5}, "epoch -5 leaves nothing"),
        ({"epoch": "x"}, "epoch 'x' leaves nothing"),
        ({"optimizer": None}, "has no optimizer"),
        ({"optimizer": {"param_groups": [{"params": [0]}], "state": {}}}, "optimizer has 1 parameters"),
    ],
)
def test_a_checkpoint_from_which_training_cannot_go_on_says_why(tmp_path, rest, message):
    official = official_model(stage=2, **TINY)
    optimizer = torch.optim.SGD(official.parameters(), 0.1).state_dict()
    path = save(official, tmp_path / "m.pth.tar", **{"epoch": 2, "optimizer": optimizer} | rest)
    config = RunConfig(load_official(path).config, RecipeConfig(epochs=8), DIGITS)
    with pytest.raises(ValueError, match=rf"m\.pth\.tar: .*{message}"):
        official_snapshot(path, Trainer(config, _enlarged(load(DIGITS))))


@needs_official
def test_weights_under_a_mask_are_left_out(tmp_path):
    official = official_model(**TINY)
    weight = official.features.denseblock_1.denselayer_1.conv_1.conv.weight
    assert (weight != 0).all()
    ours = load_official(save(official, tmp_path / "m.pth.tar"))
    assert (ours.blocks.block1[0].conv1.weight == 0).float().mean() == 0.75


@needs_official
def test_files_of_old_versions_are_read(tmp_path):
    official = official_model(**TINY)
    state = {name: t for name, t in official.state_dict().items() if not name.endswith("num_batches_tracked")}
    path = tmp_path / "old.pth.tar"
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)
    assert_same_logits(load_official(path), official)
    torch.save(state, path)
    assert_same_logits(load_official(path), official)


@needs_official
def test_a_converted_network_that_was_trained_further_keeps_its_batch_norms(tmp_path):
    small = converted(official_model("densenet_LGC"))
    with torch.no_grad():
        for module in small.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight += torch.rand_like(module.weight)
    ours = load_official(save(small, tmp_path / "c.pth.tar"))
    assert_same_logits(ours, small)
    assert_same_logits(condense(ours), small)


class Hostile:
    def __init__(self, sentinel):
        self.sentinel = sentinel

    def __reduce__(self):
        return (open, (self.sentinel, "w"))


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, legacy):
    sentinel, path = tmp_path / "sentinel", tmp_path / "hostile.pth.tar"
    torch.save({"state_dict": Hostile(str(sentinel))}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"hostile\.pth\.tar: is refused: reading it would call \S*open"):
        load_official(path)
    path.write_bytes(pickle.dumps(Hostile(str(sentinel))))
    with pytest.raises(ValueError, match=r"hostile\.pth\.tar: "):
        load_official(path)
    assert not sentinel.exists()


@needs_official
def test_a_truncated_file_is_named(tmp_path):
    path = save(official_model(**TINY), tmp_path / "m.pth.tar")
    content = path.read_bytes()
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"m\.pth\.tar: cannot be read"):
            load_official(path)


class Attribute:
    """An attribute of something; so Python before 3.11.4 names the member of an enum."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return getattr, self.arguments


@pytest.mark.parametrize("arguments", [(pickle.Pickler, "dump"), ([], "append"), (Attribute, 3)])
def test_only_a_member_of_a_class_of_ones_own_is_named_by_getattr(tmp_path, arguments):
    torch.save({"args": Attribute(*arguments)}, tmp_path / "c.pth")
    with pytest.raises(ValueError, match=r"c\.pth: is refused: reading it would call \S*getattr"):
        load_official(tmp_path / "c.pth")


def test_something_else_is_refused_with_what_it_has(tmp_path):
    path = tmp_path / "x.pth"
    for content, message in (
        ({"conv1.weight": torch.zeros(1)}, "another architecture: it has conv1.weight"),
        ([1, 2], "no state dict"),
        ({"state_dict": {"a": 1}}, "'a' is int, not a tensor"),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match=rf"x\.pth: .*{message}"):
            load_official(path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        load_official(tmp_path / "nowhere.pth")


NORM = "features.denseblock_1.denselayer_1.conv_1.norm.weight"
MASK = "features.denseblock_1.denselayer_1.conv_1._mask"


@needs_official
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(NORM), f"{NORM} is missing"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra does not belong"),
        (lambda state: state.update({NORM: torch.zeros(3)}), rf"{NORM} has shape \(3,\), but .* needs \(16,\)"),
        (lambda state: state.update({MASK: state[MASK] + 1}), f"{MASK} is not a mask"),
        (lambda state: state[MASK][0].zero_(), f"{MASK} leaves its outputs unequal shares"),
        (lambda state: state.pop(MASK), f"{MASK} is missing"),
        (lambda state: state.pop("features.norm_last.bias"), "features.norm_last.bias is missing"),
        (lambda state: state.pop("classifier.weight"), "classifier.weight is missing"),
        (
            lambda state: state.pop("features.denseblock_1.denselayer_1.conv_2.conv.weight"),
            "denselayer_1.conv_2.conv.weight is missing",
        ),
        (
            lambda state: state.update({"features.init_conv.weight": torch.zeros(5, 3, 3, 3)}),
            "init_conv.weight has",
        ),
    ],
)
def test_what_is_missing_surplus_or_contradictory_is_named(tmp_path, change, message):
    state = official_model(**TINY).state_dict()
    change(state)
    torch.save({"state_dict": state}, tmp_path / "m.pth.tar")
    with pytest.raises(ValueError, match=rf"m\.pth\.tar: .*({message})"):
        load_official(tmp_path / "m.pth.tar")


def test_an_unknown_setting_is_refused():
    with pytest.raises(ValueError, match=r"'group': did you mean 'groups'"):
        load_official("x", group=4)


@needs_official
def test_a_masked_checkpoint_in_the_middle_of_training_goes_on_here(tmp_path):
    official = official_model(stage=2, **TINY)
    optimizer = torch.optim.SGD(official.parameters(), 0.1, 0.9, weight_decay=1e-4, nesterov=True)
    official.train()(torch.randn(4, 3, 32, 32)).sum().backward()
    optimizer.step()
    path = save(official, tmp_path / "m.pth.tar", optimizer=optimizer.state_dict(), epoch=2)
    shape = load_official(path).config
    trainer = Trainer(RunConfig(shape, RecipeConfig(epochs=8), DIGITS), _enlarged(load(DIGITS)))
    trainer.restore(official_snapshot(path, trainer))
    assert (trainer.step, trainer.stage) == (3 * trainer.steps_per_epoch, 2)
    assert_same_logits(trainer.model, official)
    first = trainer.model.blocks.block1[0].conv1
    momentum = trainer.optimizer.state[first.weight]["momentum_buffer"]
    theirs = optimizer.state[official.features.denseblock_1.denselayer_1.conv_1.conv.weight]["momentum_buffer"]
    live = first.weight != 0
    assert torch.equal(momentum[live], theirs[live])
    assert (momentum[~live] == 0).all()
    records = [type(record).__name__ for record in trainer.run()]
    assert records[-1] == "Result"
    assert (first.mask.sum(1) == 4).all()


@needs_official
def test_training_goes_on_as_the_official_code_would_have_gone_on(tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        _compare_continued_training(tmp_path)
    finally:
        torch.set_default_dtype(torch.float32)


def _compare_continued_training(tmp_path):
    images = torch.randn(12, 16, 3, 32, 32)
    labels = torch.randint(10, (12, 16))
    official = official_model(stage=0, **TINY).train()
    optimizer = torch.optim.SGD(official.parameters(), 0.02, 0.9, weight_decay=1e-4, nesterov=True)

    def step(index: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 + math.cos(math.pi * index / 12))
        loss = torch.nn.functional.cross_entropy(official(images[index], index / 12), labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for index in range(3):
        step(index)
    path = save(official, tmp_path / "m.pth.tar", optimizer=optimizer.state_dict(), epoch=0)
    config = RunConfig(load_official(path).config, RecipeConfig(epochs=4, learning_rate=0.02), DIGITS)
    trainer = Trainer(config, _enlarged(load(DIGITS)))
    assert trainer.steps_per_epoch == 3
    trainer.restore(official_snapshot(path, trainer))
    trainer._evaluate = lambda images: None  # on images in float32
    for index in range(3, 12):
        step(index)
        list(trainer.enter_stages())
        trainer.train_on(images[index], labels[index])
    back = load_official(save(official, tmp_path / "end.pth.tar"))
    for name, tensor in back.state_dict().items():
        torch.testing.assert_close(trainer.model.state_dict()[name], tensor, rtol=1e-9, atol=1e-9)


def _enlarged(dataset):
    """The digits in 32 pixels."""
    from dataclasses import replace

    def enlarge(split):
        pixels = torch.nn.functional.interpolate(split.images.float(), 32).to(torch.uint8)
        return replace(split, images=pixels)

    return replace(
        dataset,
        train=enlarge(dataset.train),
        validation=enlarge(dataset.validation),
        test=enlarge(dataset.test),
    )


@pytest.mark.parametrize("connectivity", ["full", "block"])
@pytest.mark.parametrize(("groups", "factor"), [(4, 4), (4, 8), (2, 4)])
def test_a_network_of_ours_under_official_names_comes_back_the_same(tmp_path, connectivity, groups, factor):
    config = small_model(
        groups=groups, condense_factor=factor, connectivity=connectivity, image_size=32, stem_stride=1
    )
    model = lived_in(config)
    state = {}
    for name, part in official_parts(model).items():
        state |= {f"{name}.{kind}": tensor for kind, tensor in part.state_dict().items() if kind != "mask"}
        if hasattr(part, "mask"):
            holder, mask = name.removesuffix(".conv"), live_weights(part).float()
            state |= {
                f"{holder}._mask": mask,
                f"{holder}._stage": torch.tensor([float(factor - 1)]),
                f"{holder}._count": (1 - mask[0]).sum().view(1),
            }
    torch.save({"state_dict": state}, tmp_path / "m.pth.tar")
    divides = all(layer.mask.shape[1] % factor == 0 for layer in masked_layers(model).values())
    back = load_official(tmp_path / "m.pth.tar", **({} if divides else {"condense_factor": factor}))
    assert back.config == model.config
    assert all(torch.equal(tensor, back.state_dict()[name]) for name, tensor in model.state_dict().items())
