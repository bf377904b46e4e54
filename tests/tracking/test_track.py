"""Loops of one's own in the run store: what is written, how runs end and go on, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers.tracked import EPOCHS, IMAGES, Joined, Loop, tracked

import analysis
from analysis import frames
from condense_core import Condensation, cost_table
from condense_core.condensation import importances
from condense_core.store import RunHeld, RunStore, check_run, find_damage

STAGES = ["0", "1", "2", "3", "end"]


def runs_of(runs):
    (run,) = RunStore(runs).runs()
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run. No test may write to it."""
    return tracked(tmp_path_factory.mktemp("tracked") / "runs")


def test_a_tracked_run_has_what_every_run_has(run):
    assert check_run(run)
    assert run.status["state"] == "done"
    assert [frames.stage_name(record) for record in run.stages()] == STAGES
    assert frames.runs(run).iloc[0][["variant", "data", "seed", "groups"]].tolist() == [
        "Joined G=4 C=4",
        "own",
        0,
        4,
    ]
    epochs = frames.epochs(run)
    assert epochs.epoch.tolist() == [1, 2, 3, 4]
    assert epochs.learning_rate.tolist() == [0.05] * 4
    assert epochs[["train_loss", "curve_error_percent", "macs"]].notna().all(axis=None)
    assert len(frames.outcomes(run)) == IMAGES


def test_stages_have_the_masks_importances_and_costs_of_their_entry(tmp_path):
    loop, seen = Loop(), []
    prune = loop.condensation._prune

    def look(stage):
        before = importances(loop.model)
        prune(stage)
        masks = {name: layer.mask.clone() for name, layer in loop.condensation.layers.items()}
        seen.append((before, masks, cost_table(loop.model, image_size=8)))

    loop.condensation._prune = look
    with loop.track(tmp_path / "runs") as own:
        loop.train(own)
    for record, (before, masks, cost) in zip(own.run.stages(), seen, strict=False):
        arrays = own.run.stage_arrays(record)
        assert all(np.array_equal(arrays[f"mask.{name}"], mask) for name, mask in masks.items())
        assert all(np.array_equal(arrays[f"importance.{name}"], own) for name, own in before.items())
        assert (record["macs"], record["params"]) == (cost.macs, cost.params)
        assert sum(layer["macs"] for layer in record["layers"]) == cost.macs
    macs = frames.stages(own.run).macs
    assert macs.is_monotonic_decreasing
    assert macs.iloc[0] > macs.iloc[-1]


def test_the_map_says_which_layers_made_the_channels_of_concatenations_and_sums(run):
    found = frames.connections(run, "end")[["target", "source", "distance", "channels", "alive"]]
    assert found.drop(columns="alive").values.tolist() == [
        ["a", "stem", 1, 16],
        ["b", "stem", 2, 16],
        ["b", "a", 1, 16],
        ["c", "b + a", 1, 16],
    ]
    weighted = found.assign(count=found.alive * found.channels).groupby("target")[["count", "channels"]].sum()
    assert (weighted["count"] / weighted.channels).tolist() == [0.25] * 3
    assert frames.channels(run, "b").source.unique().tolist() == ["stem", "a"]


def test_a_network_that_cannot_be_traced_shows_its_channels_and_says_why(tmp_path):
    loop = Loop(network=Joined(asks=True))
    with loop.track(tmp_path / "runs") as own:
        loop.train(own)
    assert frames.connections(own.run, "end").source.tolist() == ["inputs"] * 3
    assert "torch.fx cannot trace the Joined" in own.run.tracked.untraced


def test_costs_by_layer_are_those_of_the_network(run):
    layers = frames.layers(run)
    assert set(layers.stage) == set(STAGES)
    assert layers.groupby("stage").macs.sum().to_dict() == {
        frames.stage_name(record): record["macs"] for record in run.stages()
    }
    assert layers[layers.operator == "conv1x1"].block.unique().tolist() == ["a", "b", "c"]


def test_the_weights_of_a_run_give_its_network_again(tmp_path):
    loop = Loop()
    with loop.track(tmp_path / "runs") as own:
        loop.train(own)
    again = Loop(seed=1)
    again.model.load_state_dict(own.run.weights())
    assert torch.equal(again.logits(), loop.logits())


def test_tracking_changes_nothing_of_the_training(tmp_path):
    plain, followed = Loop(), Loop()
    for _ in range(EPOCHS):
        plain.epoch()
    with followed.track(tmp_path / "runs", evaluate=followed.error):
        for _ in range(EPOCHS):
            followed.epoch()
    assert followed.condensation.observers == []
    for name, own in plain.model.state_dict().items():
        assert torch.equal(own, followed.model.state_dict()[name]), name


def test_errors_before_and_after_each_pruning_are_those_of_evaluate(tmp_path):
    loop, given = Loop(), iter(range(100))
    with loop.track(tmp_path / "runs", evaluate=lambda: next(given)) as own:
        loop.train(own)
    assert frames.steps(own.run)[["error_before", "error_after"]].values.tolist() == [[1, 2], [3, 4], [5, 6]]


def left(loop):
    loop.epoch()


def broken(loop):
    loop.epoch()
    raise LookupError("no such image")


def interrupted(loop):
    loop.epoch()
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("train", "state", "reason"),
    [
        (left, "stopped", "left after 3 of 12 steps"),
        (broken, "failed", "LookupError: no such image"),
        (interrupted, "stopped", "interrupted"),
    ],
)
@pytest.mark.filterwarnings("ignore:run .* it is not done")
def test_a_run_says_how_it_ended(tmp_path, train, state, reason):
    loop, raised = Loop(), None
    try:
        with loop.track(tmp_path / "runs"):
            train(loop)
    except (LookupError, KeyboardInterrupt) as error:
        raised = error
    run = runs_of(tmp_path / "runs")
    assert (run.status["state"], run.status["reason"]) == (state, reason)
    assert (raised is None) == (train is left)
    assert (run.folder / "error.txt").exists() == (state == "failed")


def test_a_training_that_is_left_early_is_warned_of(tmp_path):
    loop = Loop()
    with (
        pytest.warns(UserWarning, match="left after 3 of 12 steps; it is not done"),
        loop.track(tmp_path / "runs"),
    ):
        loop.epoch()


def test_a_loss_that_is_not_finite_makes_a_run_diverge(tmp_path):
    loop = Loop()
    with loop.track(tmp_path / "runs") as own:
        loop.epoch()
        own.log(1, train_loss=math.nan)
    assert own.run.status["reason"] == "the loss of epoch 1 is not finite"
    assert own.run.status["state"] == "diverged"
    assert own.run.epochs()[0]["train_loss"] is None


@pytest.mark.filterwarnings("ignore:run .* it is not done")
def test_a_training_goes_on_to_the_same_run_as_one_that_was_not_interrupted(tmp_path):
    whole = tracked(tmp_path / "whole")
    first = Loop()
    with first.track(tmp_path / "halves", evaluate=first.error) as own:
        first.train(own, last=2)
        kept = first.model.state_dict(), first.optimizer.state_dict(), first.condensation.state_dict()
        kept = torch.utils._pytree.tree_map(lambda own: own.clone() if torch.is_tensor(own) else own, kept)
        own.log(3, train_loss=first.epoch())  # is trained again
    second = Loop(seed=0)
    for part, state in zip((second.model, second.optimizer, second.condensation), kept, strict=True):
        part.load_state_dict(state)
    with second.track(tmp_path / "halves", evaluate=second.error) as own:
        second.train(own, first=3)
        own.outcomes("test", second.logits(), second.labels)
    assert own.run.contents().keys() == whole.contents().keys()
    assert own.run.contents() == whole.contents()
    assert "resumed at step 6" in own.run.notes()[0]["text"]


def test_a_training_that_begins_again_keeps_the_old_run(tmp_path):
    first, second = (tracked(tmp_path / "runs") for _ in range(2))
    assert first == second
    assert (tmp_path / "runs" / "superseded" / f"{first.name}.1" / "result.json").is_file()
    assert RunStore(tmp_path / "runs").read_study("mine")["variants"][0]["runs"] == [first.name]


def test_two_processes_cannot_track_one_run(tmp_path):
    with Loop().track(tmp_path / "runs") as own:
        with pytest.raises(RunHeld, match="is being trained by process"), Loop().track(tmp_path / "runs"):
            pass
        own._condensation.done = own.config.steps


def other_model(loop):
    return {"model": Joined(), "condensation": loop.condensation}


def begun(loop):
    loop.epoch()
    return {"model": loop.model, "condensation": loop.condensation}


def as_it_is(_):
    return {}


BAD = {
    "another model": (
        other_model,
        {},
        ValueError,
        "model Joined: must be the one that the cond",
    ),
    "begun": (begun, {}, ValueError, "has taken 3 steps, but there is no run .*: track from the first step"),
    "condensation": (
        lambda loop: {"condensation": loop.optimizer},
        {},
        TypeError,
        "SGD: must be a Condensation",
    ),
    "evaluate": (as_it_is, {"evaluate": 3}, TypeError, "evaluate 3: must be a function without arguments"),
    "seed": (as_it_is, {"seed": -1}, ValueError, "seed -1: must be a whole number at least 0"),
    "epochs": (as_it_is, {"epochs": 0}, ValueError, "epochs 0: must be a whole number at least 1"),
    "image size": (as_it_is, {"image_size": 0}, ValueError, "image_size 0: must be a whole number of pixels"),
    "variant": (
        as_it_is,
        {"variant": "a\nb"},
        ValueError,
        "variant .*: must be text without control characters",
    ),
    "study": (as_it_is, {"study": "../x"}, ValueError, "study '../x': must be a plain file name"),
    "settings": (
        as_it_is,
        {"settings": {"lr": math.inf}},
        ValueError,
        "settings lr inf: must be a number",
    ),
    "data": (as_it_is, {"data": ""}, ValueError, "data '': must be text"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_before_anything_is_written(tmp_path, case):
    of_loop, said, kind, message = BAD[case]
    loop = Loop()
    given = {"model": loop.model, "condensation": loop.condensation} | of_loop(loop)
    said = {"image_size": 8, "epochs": EPOCHS, "runs": tmp_path / "runs"} | said
    with pytest.raises(kind, match=message), analysis.track(**given, **said):
        pass
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_does_not_go_on(tmp_path):
    run = tracked(tmp_path / "runs")
    loop = Loop()
    loop.condensation.done = 3
    with pytest.raises(ValueError, match=f"has taken 3 steps, but the run {run.name} is done"):
        loop.track(tmp_path / "runs").__enter__()


def test_a_network_that_learns_nothing_is_refused(tmp_path):
    from condense_core import CondenseNet, ModelConfig

    model = CondenseNet(ModelConfig((1,), (4,), "random", groups_3x3=2))
    condensation = Condensation(model, torch.optim.SGD(model.parameters(), 0.1), steps=2)
    with pytest.raises(
        ValueError, match="no layer of the CondenseNet learns groups, so there is nothing to track"
    ):
        analysis.track(model, condensation, image_size=32, epochs=1, runs=tmp_path / "runs").__enter__()


@pytest.fixture
def own(tmp_path):
    loop = Loop()
    with pytest.warns(UserWarning, match="it is not done"), loop.track(tmp_path / "runs") as own:
        yield own


@pytest.mark.parametrize(
    ("epoch", "numbers", "message"),
    [
        (0, {}, "epoch 0: must be 1 to 4"),
        (5, {}, "epoch 5: must be 1 to 4"),
        (1.0, {}, "epoch 1.0: must be 1 to 4"),
        (1, {"train_loss": "low"}, "train_loss 'low': must be a number"),
        (
            1,
            {"train_error_percent": 101},
            "log: train_error_percent 101.0: must be a number at least 0",
        ),
        (1, {"macs": 3}, "log macs: is not for you to say"),
        (1, {"curve_loss": 3}, "curves are validation_… or test_…"),
        (1, {"validation_loss": 1, "test_loss": 1}, "has validation_… and test_… numbers"),
    ],
)
def test_a_bad_log_is_named_and_not_written(own, epoch, numbers, message):
    with pytest.raises(ValueError, match=message):
        own.log(epoch, **numbers)
    assert own.run.epochs() == []


LOGITS, LABELS = torch.zeros(4, 10), torch.zeros(4, dtype=torch.long)


@pytest.mark.parametrize(
    ("split", "logits", "labels", "message"),
    [
        ("train", LOGITS, LABELS, "split 'train': must be one of validation, test"),
        ("test", LOGITS[0], LABELS, r"logits \(10,\) torch.float32: must be numbers \(N, classes\)"),
        ("test", LOGITS[:0], LABELS, r"logits \(0, 10\)"),
        ("test", LOGITS, LABELS[:3], r"labels \(3,\) torch.int64: must be 4 whole numbers"),
        ("test", LOGITS, LOGITS[:, 0], "labels .* must be 4 whole numbers"),
        ("test", LOGITS, LABELS + 10, "labels: are 10 to 10; must be 0 to 9"),
        ("test", LOGITS / 0, LABELS, "logits: must be finite"),
    ],
)
def test_bad_outcomes_are_named(own, split, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        own.outcomes(split, logits, labels)


def test_what_no_configuration_can_build_again_is_said(run):
    with pytest.raises(ValueError, match="of a network of one's own, which no configuration can build"):
        _ = run.config


def test_a_damaged_mask_of_a_tracked_run_is_found(tmp_path):
    run = tracked(tmp_path / "runs")
    record = run.stages()[-1]
    path = run.folder / "stages" / record["tensors"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "does not match its checksum" in find_damage(RunStore(run.folder.parent), run.name)


def test_a_run_in_a_notebook_shows_its_network_and_settings(run):
    html = run._repr_html_()
    assert "4 of 4" in html
    assert "Joined; 3 layers learn groups" in html


def test_ranks_other_than_the_first_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    with Loop().track(tmp_path / "runs") as own:
        own.log(1, train_loss=0.0)
        own.outcomes("test", LOGITS, LABELS)
    assert not (tmp_path / "runs").exists()
