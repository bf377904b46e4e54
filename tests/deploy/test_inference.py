"""Condensed networks in the fast execution, their plans and their files."""

from __future__ import annotations

import copy
import dataclasses
import threading

import pytest
import torch
from helpers.networks import lived_in as lived_in_training
from helpers.runs import small_model
from hypothesis import given, settings, strategies as st
from torch import nn

from condense_core import condense, fast
from condense_core.deploy import Plan, export_file, load_condensed, make_plan, save_condensed
from condense_core.deploy.blocks import CondensedBlock
from condense_core.deploy.plan import CHOICES
from condense_core.fast import engines, inference_block, threads


def images(count: int = 2, size: int = 8, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(count, 3, size, size, dtype=dtype, generator=torch.Generator().manual_seed(count))


def lived_in(*arguments):
    return lived_in_training(*arguments).eval()


def condensed_blocks(model) -> list[CondensedBlock]:
    return [part for part in model.blocks if isinstance(part, CondensedBlock)]


def assert_same(small, model, batch, tolerance=1e-11):
    """Compare a condensed network part by part, and in one call where it has only blocks and pools."""
    calls, engine = [], small.engine
    run = inference_block.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference_block, "run", lambda *arguments: calls.append(1) or run(*arguments))
        with torch.no_grad():
            small.engine = None
            by_parts, expected = small(batch), model(batch)
            assert len(calls) == len(condensed_blocks(small)), "the fast execution did not run"
            small.engine = engine
            whole = small(batch)
    in_one_call = small.config.connectivity == "full" and len(batch) >= torch.get_num_threads()
    assert (len(calls) == len(condensed_blocks(small))) == in_one_call
    for found in (by_parts, whole):
        assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@settings(max_examples=12)
@given(
    grouping=st.sampled_from(["learned", "random", "independent", "sequential", "none"]),
    connectivity=st.sampled_from(["full", "block"]),
    stage=st.integers(0, 3),
    choice=st.sampled_from(list(CHOICES)),
    growth=st.sampled_from([(4, 8, 16), (6, 6, 10)]),
    groups_3x3=st.sampled_from([1, 2]),
    permute=st.booleans(),
    fold=st.booleans(),
    count=st.integers(1, 5),
    size=st.sampled_from([(8, 8), (9, 13), (17, 8), (40, 36), (4, 70)]),
    workers=st.integers(1, 3),
)
def test_any_condensed_network_on_any_images_gives_the_references_numbers(
    stage, choice, fold, count, size, workers, **model
):
    groups, factor = (1, 1) if model["grouping"] == "none" else (2, 4)
    torch.set_num_threads(workers)
    network = lived_in(small_model(groups=groups, condense_factor=factor, **model), stage).double()
    draws = torch.Generator().manual_seed(count)
    batch = torch.randn(count, 3, *size, dtype=torch.float64, generator=draws)
    assert_same(condense(network, fold, plan=choice), network, batch)


def test_many_channels_and_large_images_are_worked_through_in_pieces():
    torch.set_num_threads(2)
    network = lived_in(small_model(stages=(2,), growth=(96,), groups=4, image_size=128, stem_stride=1)).double()
    assert_same(condense(network, plan="grouped"), network, images(1, 128))


def test_the_last_band_of_an_image_may_need_no_new_rows():
    """At 45 pixels a band has 22 rows, and the hidden row below the second one is the image's last."""
    network = lived_in(small_model(stages=(1,), growth=(4,), image_size=45)).double()
    assert_same(condense(network, plan="grouped"), network, images(1, 45))


def test_float32_and_repetition():
    torch.set_num_threads(2)
    network = lived_in(small_model())
    small = condense(network, plan="grouped")
    batch = images(3, dtype=torch.float32)
    assert_same(small, network, batch, tolerance=1e-5)
    assert small(batch).equal(small(batch))


@pytest.mark.parametrize("choice", CHOICES)
def test_groups_that_scale_the_same_input_differently_stay_groups(choice):
    network = condense(lived_in(small_model()).double(), fold=False, execution="reference")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.add_(torch.linspace(0, 1, len(module.weight)))
    assert_same(condense(network, plan=choice), network, images())


def test_what_is_not_a_number_stays_one():
    small = condense(lived_in(small_model()).double(), plan="grouped")
    batch = images(2)
    batch[1] = float("nan")
    found = small(batch)
    assert found[0].isfinite().all()
    assert found[1].isnan().all()


def test_training_gradients_and_hooks_are_left_to_the_reference():
    network = condense(lived_in(small_model()), fold=False)
    block = condensed_blocks(network)[0]
    x = torch.randn(2, 8, 8, 8)
    assert not block.engine.can_compute(block, x), "its weights take gradients"
    with torch.no_grad():
        assert block.engine.can_compute(block, x)
        assert not block.engine.can_compute(block, x.half())
        handle = block[0].conv1.register_forward_hook(lambda *_: None)
        assert not block.engine.can_compute(block, x)
        handle.remove()
        block.train()
        assert not block.engine.can_compute(block, x)


def test_one_call_computes_a_network_only_if_kernels_can_compute_all_of_it():
    torch.set_num_threads(1)
    small, batch = condense(lived_in(small_model()).double(), fold=False, plan="grouped"), images(4)

    def runs(some=batch) -> bool:
        return small.engine.can_compute(small, some)

    assert not runs(), "its weights take gradients"
    with torch.no_grad():
        assert runs()
        handle = small.relu.register_forward_hook(lambda *_: None)
        assert not runs()
        handle.remove()
        assert runs()
        small.norm.train()
        assert not runs()
        small.eval()
        small.relu = nn.LeakyReLU()
        assert not runs()
        small.relu = nn.ReLU()
        torch.set_num_threads(3)
        assert not runs(batch[:2]), "threads would have nothing to do"
        assert runs(batch[:3])


def test_changed_weights_are_seen():
    network = lived_in(small_model()).double()
    small = condense(network, plan="grouped")
    batch = images()
    before = small(batch)
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.mul_(1.1)
    changed = copy.deepcopy(small)
    fast.use(changed, "reference")
    assert not small(batch).equal(before)
    assert_same(small, changed, batch)


def test_statistics_that_are_moved_to_another_place_are_seen():
    small = condense(lived_in(small_model()).double(), plan="grouped")
    batch = images(4)
    for engine in (small.engine, None):  # in one call, and part by part
        small.engine = engine
        before = small(batch)
        for module in small.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.data = module.running_mean + 1
        assert not small(batch).equal(before)


def test_a_hook_is_seen_beside_another_one():
    network = condense(lived_in(small_model()), plan="grouped")
    block, x = condensed_blocks(network)[0], torch.randn(2, 8, 8, 8)
    block.register_forward_hook(lambda *_: None)  # which is called around the block
    assert block.engine.can_compute(block, x)
    block[0].conv1.register_forward_hook(lambda *_: None)
    assert not block.engine.can_compute(block, x)


def test_a_plan_measures_every_layer_and_its_network_runs_by_the_best(tmp_path):
    network = lived_in(small_model()).double()
    small = condense(network)
    plan = make_plan(small, images(), repeats=1)
    assert [layer.name for layer in plan.layers] == [
        f"blocks.block{block}.{place}" for block, layers in ((1, 1), (2, 2), (3, 1)) for place in range(layers)
    ]
    assert all(set(layer.milliseconds) == set(CHOICES) for layer in plan.layers)
    assert list(small.blocks.plans.values()) == [plan]
    assert Plan.from_dict(plan.to_dict()) == plan
    text = str(plan)
    assert all(layer.name in text for layer in plan.layers)
    assert f"it runs by '{plan.execution}'" in text
    if plan.execution == "fast":
        assert [choice for choices in plan.choices.values() for choice in choices] == [
            layer.chosen for layer in plan.layers
        ]
        assert_same(small, network, images(3))


def test_measuring_a_network_assembles_its_programs_once(monkeypatch):
    small, assemble = condense(lived_in(small_model())), inference_block.assemble
    calls = []
    monkeypatch.setattr(inference_block, "assemble", lambda *layers: calls.append(1) or assemble(*layers))

    def assembled(repeats: int) -> int:
        calls.clear()
        make_plan(small, images(dtype=torch.float32), repeats=repeats)
        return len(calls)

    assert assembled(repeats=1) == assembled(repeats=4)


def test_a_slower_whole_is_left_to_torch():
    small = condense(lived_in(small_model()))
    plan = make_plan(small, images(dtype=torch.float32), repeats=1)
    slower = dataclasses.replace(plan, network={"fast": 2.0, "reference": 1.0})
    assert fast.execution_of(slower.apply(small)) == "reference"
    faster = dataclasses.replace(plan, network={"fast": 1.0, "reference": 2.0})
    assert fast.execution_of(faster.apply(small)) == "fast"


def test_plans_of_other_networks_and_unfit_inputs_are_refused():
    small = condense(lived_in(small_model()))
    plan = make_plan(small, images(dtype=torch.float32), repeats=1)
    with pytest.raises(ValueError, match=r"block3\.0 \(4\), but the network has .* \(3\)"):
        plan.apply(condense(lived_in(small_model(stages=(1, 1, 1)))))
    with pytest.raises(ValueError, match="not condensed"):
        make_plan(lived_in(small_model()), images())
    with pytest.raises(ValueError, match="float16"):
        make_plan(small, images().half())


def test_without_kernels_a_plan_says_so_and_the_network_still_runs(monkeypatch):
    for place in (engines, fast):
        monkeypatch.setattr(place, "available", lambda: False)
    network = lived_in(small_model())
    small = condense(network)
    plan = make_plan(small, images(dtype=torch.float32), repeats=1)
    assert "need numba" in str(plan)
    assert fast.execution_of(small) == "reference"
    batch = images(dtype=torch.float32)
    assert torch.allclose(small(batch), network(batch), atol=1e-4)


@pytest.mark.parametrize("stage", [0, 1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"connectivity": "block"},
        {"grouping": "none", "groups": 1, "condense_factor": 1},
        {"classifier_pruning": True},
        {"condense_factors": (4, 1, 2, 6)},
    ],
)
def test_a_condensed_network_and_its_plan_are_saved_and_loaded(tmp_path, stage, settings):
    small = condense(lived_in(small_model(**settings), stage))
    batch = images(dtype=torch.float32)
    plan = make_plan(small, batch, repeats=1)
    save_condensed(small, tmp_path / "small.safetensors", plan)
    again, found = load_condensed(tmp_path / "small.safetensors")
    assert found == plan
    assert found.matches_this_machine
    assert fast.execution_of(again) == fast.execution_of(small)
    with torch.no_grad():
        assert again(batch).equal(small(batch))
    save_condensed(
        condense(lived_in(small_model(**settings), stage), fold=False), tmp_path / "plain.safetensors"
    )
    again, found = load_condensed(tmp_path / "plain.safetensors")
    assert found is None
    assert torch.allclose(again(batch), small(batch), atol=1e-4)


def test_other_files_are_refused_by_name(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"x\.safetensors: is not a condensed network"):
        load_condensed(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        load_condensed(path)
    small = condense(lived_in(small_model()))
    save_condensed(small, path)
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        notes = file.metadata()
    save_file({"classifier.bias": torch.zeros(3)}, path, notes)
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        load_condensed(path)


def test_exports_do_not_hold_the_plan(tmp_path):
    network = lived_in(small_model())
    small = condense(network, plan="grouped")
    batch = images(dtype=torch.float32)
    with torch.no_grad():
        written = export_file(small, tmp_path / "small.pt2", batch, network(batch))
    assert written.passes


def test_all_threads_work_at_the_same_time_and_errors_come_out():
    torch.set_num_threads(3)
    for run in (
        (threads.run_in_pool, threads.run_in_team) if threads.openmp_parallel() else (threads.run_in_pool,)
    ):
        barrier, seen = threading.Barrier(3, timeout=20), []

        def task(thread: int, barrier=barrier, seen=seen) -> None:
            barrier.wait()
            seen.append(thread)

        run(task, 3)
        assert sorted(seen) == [0, 1, 2]

        def fault(thread: int) -> None:
            raise KeyError(thread)

        with pytest.raises(KeyError):
            run(fault, 3)
