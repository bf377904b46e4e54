"""Condensation in a loop of one's own: the trainer's decisions, any optimizer, and what training loops do."""

from __future__ import annotations

import copy
import dataclasses
import warnings

import pytest
import torch
import torch.multiprocessing as mp
from helpers.runs import small_run
from torch import nn
from torch.nn import functional as F

from condense_core import Condensation, CondenseNet, Trainer, learn_groups
from condense_core.config import PRUNINGS
from condense_core.grouping import live_weights
from condense_core.learning import learning_rate, momentum_descent

STEPS = 12


def network(seed: int = 0, norm: bool = True, linear: bool = False) -> nn.Sequential:
    """A small network with a learned 1×1 and a learned 3×3 convolution."""
    torch.manual_seed(seed)
    norms = [nn.BatchNorm2d(16)] if norm else []
    layers = [nn.Conv2d(3, 16, 3), *norms, nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 3)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8))
    learn_groups(model, select=lambda name, _: name != "0", linear=linear)
    return model


def batch(step: int, images: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(step)
    return torch.randn(images, 3, 8, 8, generator=draws), torch.randint(8, (images,), generator=draws)


def momentum(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)


def train(model, condensation, first: int = 0, last: int = STEPS, run=None) -> None:
    for step in range(first, last):
        images, labels = batch(step)

        def loss(images=images, labels=labels) -> torch.Tensor:
            condensation.optimizer.zero_grad()
            loss = F.cross_entropy((run or model)(images), labels) + condensation.penalty()
            loss.backward()
            return loss

        condensation.optimizer.step(loss)
        condensation.step()


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, tensor), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(tensor, expected), name


def dead_numbers(condensation: Condensation) -> int:
    """How many dropped weights are not zero."""
    layers = condensation.layers.values()
    return sum(int((layer.weight[~live_weights(layer)] != 0).sum()) for layer in layers)


@pytest.mark.parametrize("pruning", PRUNINGS)
@pytest.mark.parametrize(
    ("criterion", "settings"),
    [
        ("l1", {"classifier_pruning": True}),
        ("norm-scale", {}),
        ("random", {}),
        ("l1", {"grouping": "unstructured"}),
    ],
)
def test_a_plain_loop_trains_a_condensenet_as_the_trainer_does_step_by_step(
    pruning, criterion, settings, digits
):
    run = small_run(**settings)
    recipe = dataclasses.replace(run.recipe, pruning=pruning, criterion=criterion)
    trainer = Trainer(dataclasses.replace(run, recipe=recipe, execution="reference"), digits)
    trainer.model.train()

    model = CondenseNet(run.model, run.seed).to(memory_format=torch.channels_last).train()
    optimizer, steps = momentum_descent(model, recipe), trainer.total_steps
    how = {"pruning": pruning, "criterion": criterion, "seed": run.seed}
    condensation = Condensation(model, optimizer, steps, group_lasso=recipe.group_lasso, **how)
    batches = (
        own for epoch in range(recipe.epochs) for own in trainer.dataset.training_batches(run.seed, epoch, 64)
    )
    if pruning == "at-start":  # a loop's own first stage is before its first step
        condensation.enter(condensation.due())
    for step, (images, labels) in enumerate(batches):
        list(trainer.enter_stages())
        assert max(condensation.stage, 0) == trainer.stage
        assert_same(trainer.model, model)
        trainer.train_on(images, labels)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, steps)
        loss = F.cross_entropy(model(images), labels) + condensation.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        condensation.step()
    assert condensation.done == steps
    assert condensation.stage == condensation.last_stage
    assert_same(trainer.model, model)
    for one, other in zip(trainer.model.parameters(), model.parameters(), strict=True):
        moments = (
            who.state[own]["momentum_buffer"] for who, own in ((trainer.optimizer, one), (optimizer, other))
        )
        assert torch.equal(*moments)


OPTIMIZERS = {
    "sgd": momentum,
    "adam": lambda model: torch.optim.Adam(model.parameters(), 1e-2, weight_decay=1e-2),
    "amsgrad": lambda model: torch.optim.AdamW(model.parameters(), 1e-2, amsgrad=True),
    "nadam": lambda model: torch.optim.NAdam(model.parameters(), 1e-2),
    "rmsprop": lambda model: torch.optim.RMSprop(model.parameters(), 1e-3, momentum=0.9, centered=True),
    "adagrad": lambda model: torch.optim.Adagrad(model.parameters(), 1e-2),
    "adadelta": lambda model: torch.optim.Adadelta(model.parameters(), 1.0),
    "asgd": lambda model: torch.optim.ASGD(model.parameters(), 1e-2),
    "rprop": lambda model: torch.optim.Rprop(model.parameters(), 1e-3),
    "lbfgs": lambda model: torch.optim.LBFGS(model.parameters(), 1e-2, max_iter=2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_dropped_stays_dropped_under_every_optimizer(name):
    model = network()
    condensation = Condensation(model, OPTIMIZERS[name](model), STEPS)
    reached = []
    for step in range(STEPS):
        train(model, condensation, step, step + 1)
        reached.append(condensation.stage)
        assert dead_numbers(condensation) == 0
        for layer in condensation.layers.values():
            for moment in condensation.optimizer.state[layer.weight].values():
                if name not in ("rprop", "lbfgs") and getattr(moment, "shape", None) == layer.weight.shape:
                    assert not moment[~live_weights(layer)].any()
    assert sorted(set(reached)) == [0, 1, 2, 3]
    assert {tuple(layer.mask.sum(1).tolist()) for layer in condensation.layers.values()} == {(4,) * 4}
    assert all(layer.weight[live_weights(layer)].all() for layer in condensation.layers.values())


def test_an_optimizer_that_mixes_weights_does_not_bring_dropped_ones_back():
    """Muon turns the gradient of a matrix into an orthogonal one, which has no zeros."""
    model = network(linear=True)
    matrix = model[-1].weight
    others = [own for own in model.parameters() if own is not matrix]
    muon, sgd = torch.optim.Muon([matrix], 1e-2), torch.optim.SGD(others, 0.05)
    condensation = Condensation(nn.Sequential(model[-1]), muon, STEPS)
    for step in range(STEPS):
        images, labels = batch(step)
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        muon.step()
        sgd.step()
        moved = dead_numbers(condensation)
        condensation.step()
        assert dead_numbers(condensation) == 0
    assert moved > 0, "this optimizer proves nothing"


@pytest.mark.parametrize("name", ["sgd", "amsgrad"])
def test_a_training_resumed_at_any_step_is_one_that_was_not_interrupted(name):
    whole = network()
    train(whole, Condensation(whole, OPTIMIZERS[name](whole), STEPS))
    for stop in range(0, STEPS, 3):
        first = network()
        condensation = Condensation(first, OPTIMIZERS[name](first), STEPS)
        train(first, condensation, 0, stop)
        second = network(seed=1)
        again = Condensation(second, OPTIMIZERS[name](second), STEPS)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        again.optimizer.load_state_dict(copy.deepcopy(condensation.optimizer.state_dict()))
        again.load_state_dict(condensation.state_dict())
        train(second, again, stop)
        assert_same(second, whole)


def test_a_compiled_network_sees_each_stages_masks():
    model, compiled = network(), network()
    run = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    one = Condensation(model, momentum(model), STEPS)
    other = Condensation(run, momentum(compiled), STEPS)
    for step in range(STEPS):
        train(model, one, step, step + 1)
        train(compiled, other, step, step + 1, run)
        for layer, expected in zip(other.layers.values(), one.layers.values(), strict=True):
            assert torch.equal(layer.mask, expected.mask)
        images = batch(100)[0]
        torch.testing.assert_close(run(images), model(images), rtol=1e-3, atol=1e-4)


def test_gradients_of_parts_of_a_batch_add_up_to_the_same_stages():
    model, parts = network(norm=False), network(norm=False)
    one, other = (Condensation(own, momentum(own), STEPS) for own in (model, parts))
    train(model, one)
    for step in range(STEPS):
        images, labels = batch(step)
        for half in (slice(0, 4), slice(4, 8)):
            ((F.cross_entropy(parts(images[half]), labels[half]) + other.penalty()) / 2).backward()
        other.optimizer.step()
        other.optimizer.zero_grad()
        other.step()
    for (name, tensor), expected in zip(parts.state_dict().items(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_with_a_scaler_prunes_on(dtype):
    model = network()
    condensation = Condensation(model, momentum(model), STEPS, group_lasso=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)  # the first steps overflow in float16
    before = model[0].weight.detach().clone()
    for step in range(STEPS):
        images, labels = batch(step)
        with torch.autocast("cpu", dtype):
            loss = F.cross_entropy(model(images), labels) + condensation.penalty()
        condensation.optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(condensation.optimizer)
        scaler.update()
        condensation.step()
        assert dead_numbers(condensation) == 0
    assert condensation.stage == 3
    assert not torch.equal(before, model[0].weight)
    assert model[0].weight.isfinite().all()


def test_the_penalty_of_half_numbers_does_not_overflow():
    model = nn.Sequential(nn.Conv2d(8, 8, 1)).half()
    nn.init.constant_(model[0].weight, 300.0)
    learn_groups(model)
    condensation = Condensation(model, momentum(model), STEPS, group_lasso=1.0)
    assert condensation.penalty().item() == pytest.approx(4 * 8 * 300 * 2**0.5, rel=1e-3)


def rank(number: int, path: str, results) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)  # before torch 2.14 the setting below has only this name
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=number, world_size=2)
    model = network(seed=number)  # rank 0's weights are sent to the others
    parallel = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)  # or rank 0 sends its masks
    condensation = Condensation(parallel, momentum(model), STEPS)
    for step in range(STEPS):
        if number:
            with torch.no_grad():
                model[3].weight += (
                    0.1 * torch.rand_like(model[3].weight) * live_weights(model[3])
                )  # it drifts away
        images, labels = batch(2 * step + number)
        loss = F.cross_entropy(parallel(images), labels) + condensation.penalty()
        condensation.optimizer.zero_grad()
        loss.backward()
        condensation.optimizer.step()
        condensation.step()
    results[number] = [layer.mask.tolist() for layer in condensation.layers.values()]
    torch.distributed.destroy_process_group()


def test_all_ranks_have_the_masks_of_rank_0(tmp_path):
    with mp.get_context("spawn").Manager() as manager:
        results = manager.dict()
        mp.spawn(rank, (str(tmp_path / "ranks"), results), nprocs=2)
        assert results[0] == results[1]
        assert sum(map(sum, results[0][0])) == 16


def test_the_last_step_leaves_no_stage_out():
    model = network()
    condensation = Condensation(model, momentum(model), 1)
    train(model, condensation, 0, 1)
    assert condensation.stage == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps 0: must be a whole number, at least 1"),
        ({"steps": 2.5}, "steps 2.5: must be a whole number"),
        ({"group_lasso": -1.0}, "group_lasso -1.0: must be a number, at least 0"),
        ({"group_lasso": float("nan")}, "group_lasso nan: must be a number"),
        ({"pruning": "one_shot"}, "pruning 'one_shot': did you mean 'one-shot'"),
        ({"criterion": "l3"}, "criterion 'l3'"),
        ({"criterion": "norm-scale"}, "criterion 'norm-scale': needs a CondenseNet"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    model = network()
    with pytest.raises(ValueError, match=message):
        Condensation(model, momentum(model), **{"steps": STEPS} | settings)


def test_a_network_without_learned_groups_and_another_networks_optimizer_are_refused():
    model = nn.Sequential(nn.Conv2d(8, 8, 1))
    with pytest.raises(ValueError, match="no layer of the Sequential learns groups; call learn_groups"):
        Condensation(model, momentum(model), STEPS)
    with pytest.raises(
        ValueError, match="optimizer: lacks the weights of 2 layers that learn groups, such as 3"
    ):
        Condensation(network(), momentum(network()), STEPS)
    with pytest.raises(TypeError, match="optimizer float: must be a"):
        Condensation(network(), 0.1, STEPS)


def test_steps_past_the_end_and_stages_out_of_turn_are_refused():
    model = network()
    condensation = Condensation(model, momentum(model), STEPS)
    masks = [layer.mask.clone() for layer in condensation.layers.values()]
    with pytest.raises(ValueError, match="stage 2: stage 0 is due"):
        condensation.enter(2)
    assert all(map(torch.equal, masks, (layer.mask for layer in condensation.layers.values())))
    train(model, condensation)
    with pytest.raises(ValueError, match="stage 3: none is due"):
        condensation.enter(3)
    with pytest.raises(ValueError, match="step 13: the training has 12 steps"):
        condensation.step()


def test_the_state_of_another_training_or_of_other_masks_is_refused():
    model = network()
    condensation = Condensation(model, momentum(model), STEPS)
    train(model, condensation)
    other = network()
    longer = Condensation(other, momentum(other), 100)
    with pytest.raises(ValueError, match="steps 100: the state is of a training with 12"):
        longer.load_state_dict(condensation.state_dict())
    fresh = Condensation(other, momentum(other), STEPS)
    with pytest.raises(ValueError, match="stage 3: 3 is not pruned so; load the model's state first"):
        fresh.load_state_dict(condensation.state_dict())
    assert (fresh.done, fresh.stage) == (0, -1)
