"""A condensed network is fast as it comes: it finds its plans itself, once for each shape of images."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers.networks import lived_in
from helpers.runs import small_model

from condense_core import condense, fast, load_condensed, make_plan, save_condensed
from condense_core.deploy import planned, remembered
from condense_core.deploy.outputs import TOLERANCE, relative_difference
from condense_core.deploy.plan import CHOICES

MODEL = lived_in(small_model()).eval()


def images(count: int = 2, size: int = 8) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


@pytest.fixture(autouse=True)
def measured(monkeypatch, tmp_path) -> list:
    """The shapes of what is measured from here on; nothing is remembered from other tests."""
    shapes, measure = [], planned.measure
    monkeypatch.setattr(
        planned, "measure", lambda parts, x, *rest: shapes.append(x.shape) or measure(parts, x, *rest)
    )
    monkeypatch.setattr(remembered, "folder", lambda: tmp_path / "cache" / "plans")
    return shapes


def assert_right(small, batch) -> None:
    with torch.no_grad():
        assert relative_difference(small(batch), MODEL(batch)) <= TOLERANCE


def test_the_first_call_for_a_shape_measures_and_later_calls_do_not(measured):
    small = condense(MODEL)
    assert not measured
    for batch in (images(1), images(2), images(3), images(2, 16), images(8), images(100)):
        for _ in range(2):
            assert_right(small, batch)
    assert [(shape[0], shape[2]) for shape in measured] == [(1, 8), (2, 8), (2, 16), (8, 8)]


def test_another_number_of_threads_has_its_own_plan(measured):
    small = condense(MODEL)
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        assert_right(small, images())
    assert [shape.threads for shape in small.blocks.plans] == [1, 2]


def test_what_was_measured_is_remembered_for_networks_of_the_same_sizes(measured):
    assert_right(condense(MODEL), images())
    make_plan(condense(MODEL), images(8), repeats=1)
    measured.clear()
    again = condense(MODEL)
    assert_right(again, images())
    assert_right(again, images(8))
    assert not measured
    condense(lived_in(small_model(stages=(1, 1, 1))).eval())(images())
    condense(MODEL.double())(images().double())
    MODEL.float()
    assert len(measured) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"layers": []}', "\0" * 9])
def test_a_damaged_memory_is_measured_again_and_mended(measured, content, tmp_path):
    condense(MODEL)(images())
    (file,) = (tmp_path / "cache" / "plans").iterdir()
    file.write_text(content)
    assert_right(condense(MODEL), images())
    assert len(measured) == 2
    assert_right(condense(MODEL), images())
    assert len(measured) == 2


def no_home() -> None:
    raise RuntimeError("Could not determine home directory.")


def test_a_folder_that_cannot_be_written_costs_only_the_memory(measured, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for folder in (lambda: tmp_path / "file" / "plans", no_home):
        monkeypatch.setattr(remembered, "folder", folder)
        small = condense(MODEL)
        for _ in range(2):
            assert_right(small, images())
    assert len(measured) == 2


@pytest.mark.parametrize("choice", CHOICES)
def test_what_is_given_holds_for_every_shape_and_nothing_is_measured(measured, choice):
    small = condense(MODEL, plan=choice)
    for batch in (images(), images(8, 16)):
        assert_right(small, batch)
    assert not measured
    plan = make_plan(condense(MODEL), images(), repeats=1)
    small = condense(MODEL, plan=plan)
    assert_right(small, images(8, 16))
    assert len(measured) == 1
    assert fast.execution_of(small) == plan.execution


def test_another_plan_than_there_is_and_that_of_another_network_are_refused():
    with pytest.raises(ValueError, match=r"plan 'fastest': must be a Plan or one of grouped, union, dense"):
        condense(MODEL, plan="fastest")
    with pytest.raises(ValueError, match=r"execution 'slow': must be one of"):
        condense(MODEL, execution="slow")
    plan = make_plan(condense(MODEL), images(), repeats=1)
    with pytest.raises(ValueError, match="plan: is for the layers"):
        condense(lived_in(small_model(stages=(1, 1, 1))).eval(), plan=plan)


def test_the_reference_runs_in_torchs_modules(measured):
    small = condense(MODEL, execution="reference")
    assert fast.execution_of(small) == "reference"
    assert_right(small, images())
    assert not measured


def test_nothing_is_measured_while_kernels_cannot_compute_the_network(measured):
    small = condense(MODEL, fold=False)
    small(images()).sum().backward()
    handle = small.blocks.block2[0].conv1.register_forward_hook(lambda *_: None)
    assert_right(small, images())
    handle.remove()
    torch.jit.trace(small, images(), check_trace=False)
    torch.export.export(small, (images(),))
    small.train()(images())
    assert not measured
    small = condense(MODEL)
    assert_right(small, images())
    assert len(measured) == 1


def test_threads_that_call_at_the_same_time_measure_once(measured):
    small = condense(MODEL)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(small, [images()] * 8))
    assert len(measured) == 1
    assert all(relative_difference(own, MODEL(images())) <= TOLERANCE for own in found)


def test_copies_have_the_plans_and_the_state_has_only_tensors(measured):
    small = condense(MODEL)
    expected = small(images())
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert other(images()).equal(expected)
    assert len(measured) == 1
    reference = condense(MODEL, execution="reference")
    assert small.state_dict().keys() == reference.state_dict().keys()
    reference.load_state_dict(small.state_dict())


def test_a_stored_plan_holds_on_its_processor_for_its_shape(measured, tmp_path, monkeypatch):
    small = condense(MODEL)
    plan = make_plan(small, images(8), repeats=1)
    save_condensed(small, tmp_path / "small.safetensors", plan)
    again, _ = load_condensed(tmp_path / "small.safetensors")
    assert list(again.blocks.plans.values()) == [plan]
    assert_right(again, images(8))
    monkeypatch.setattr("condense_core.deploy.plan.processor", lambda: "another")
    elsewhere, _ = load_condensed(tmp_path / "small.safetensors")
    assert not elsewhere.blocks.plans
