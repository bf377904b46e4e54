"""The fast execution gives the reference's numbers."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.runs import small_model, small_run
from hypothesis import given, settings, strategies as st
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher
from torch import nn

from condense_core import CondenseNet, ModelConfig, Trainer, condense, cost_table
from condense_core.condensation import group_lasso, learned_layers, prune
from condense_core.fast import engines, group_lasso as fast_group_lasso, kernels, use
from condense_core.fast.kernels.compilation import fingerprint

TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-4}


def pair(config: ModelConfig, stage: int = 0, dtype=torch.float64) -> tuple[CondenseNet, CondenseNet]:
    """The same network twice, in the reference and in the fast execution."""
    model = CondenseNet(config, seed=0).to(dtype)
    for layer in learned_layers(model).values():
        prune(layer, min(stage, layer.condense_factor - 1))
    fast = copy.deepcopy(model)
    use(fast)
    return model, fast


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference relative to the largest number."""
    ours, theirs = ours.detach(), theirs.detach()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))


def check_step(model: CondenseNet, fast: CondenseNet, images: torch.Tensor, tolerance: float) -> None:
    expected, found = model(images), fast(images)
    assert "_BlockBackward" in graph(found), "the fast execution did not run"
    assert difference(found, expected) < tolerance
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    for (name, theirs), ours in zip(model.named_parameters(), fast.parameters(), strict=True):
        assert difference(ours.grad, theirs.grad) < tolerance, name
    for (name, theirs), ours in zip(model.named_buffers(), fast.buffers(), strict=True):
        assert difference(ours.double(), theirs.double()) < tolerance, name


def graph(result: torch.Tensor) -> set[str]:
    """The names of all operations that a result came from."""
    names, left = set(), [result.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in names:
            names.add(node.name())
            left += [following for following, _ in node.next_functions]
    return names


@pytest.mark.parametrize(
    ("stage", "dtype", "threads", "images"),
    [
        (0, torch.float64, 1, 5),
        (1, torch.float64, 2, 70),
        (0, torch.float32, 2, 64),
        (2, torch.float64, 1, 33),
        (3, torch.float32, 1, 5),
    ],
)
def test_outputs_gradients_and_running_statistics_are_the_references(stage, dtype, threads, images):
    torch.set_num_threads(threads)
    torch.manual_seed(stage)
    model, fast = pair(small_model(), stage, dtype)
    check_step(model, fast, torch.randn(images, 3, 8, 8, dtype=dtype), TOLERANCE[dtype])


@settings(max_examples=10)
@given(
    grouping=st.sampled_from(["learned", "random", "independent", "sequential", "unstructured", "none"]),
    connectivity=st.sampled_from(["full", "block"]),
    groups=st.sampled_from([1, 2, 4]),
    condense_factor=st.sampled_from([1, 2, 3, 4]),
    groups_3x3=st.sampled_from([1, 2]),
    growth=st.sampled_from([(2, 4), (4, 6), (6, 10)]),
    permute=st.booleans(),
    image_size=st.sampled_from([5, 8, 13, 24]),
    images=st.sampled_from([2, 5, 17]),
)
def test_every_configuration_gives_the_references_numbers(images, **model):
    if model["grouping"] == "none":
        model |= {"groups": 1, "condense_factor": 1}
    config = ModelConfig(stages=(2, 1), **model)
    masked, fast = pair(config, stage=config.condense_factor - 1)
    torch.manual_seed(0)
    check_step(masked, fast, torch.randn(images, 3, config.image_size, config.image_size).double(), 1e-10)


def test_evaluation_takes_the_running_statistics():
    model, fast = pair(small_model(), stage=2)
    images = torch.randn(6, 3, 8, 8, dtype=torch.float64)
    for network in (model, fast):
        network(images)
        network.eval()
    with torch.no_grad():
        assert difference(fast(images), model(images)) < 1e-12


def test_a_run_stays_close_to_the_reference_and_repeats_itself(digits):
    """In float64, where no ReLU flips on rounding."""
    ends = []
    for name in ("reference", "fast", "fast"):
        config = small_run()
        trainer = Trainer(replace(config, execution=name), digits)
        trainer.model.double()
        for parameter in trainer.model.parameters():
            trainer.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        for step, (images, labels) in enumerate(digits.training_batches(0, 0, 64, 0)):
            list(trainer.enter_stages())
            trainer.train_on(images.double(), labels)
            if step == 2:
                break
        ends.append(torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()]))
    assert difference(ends[1], ends[0]) < 1e-9
    assert ends[1].equal(ends[2])


@pytest.mark.parametrize("settings", [{}, {"permute": False}, {"grouping": "unstructured", "groups": 1}])
def test_the_lasso_and_its_gradient_are_the_references(settings):
    model, fast = pair(small_model(**settings), stage=2)
    expected, found = group_lasso(model), fast_group_lasso(fast)
    assert difference(found, expected) < 1e-12
    expected.backward()
    found.backward()
    for name, layer in learned_layers(model).items():
        assert difference(fast.get_submodule(name).weight.grad, layer.weight.grad) < 1e-12


def test_what_is_not_a_number_stays_one():
    _, fast = pair(small_model())
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    images[1, 0, 3, 3] = torch.nan
    assert fast(images).isnan().any()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda model: model.blocks[0][0].conv1.register_forward_hook(lambda *_: None), id="hook"),
        pytest.param(lambda model: model.half(), id="float16"),
        pytest.param(lambda model: use(model, "reference"), id="asked"),
    ],
)
def test_what_the_fast_execution_cannot_do_is_left_to_the_reference(change):
    _, model = pair(small_model(), dtype=torch.float32)
    change(model)
    images = torch.randn(4, 3, 8, 8, dtype=next(model.parameters()).dtype)
    result = model.blocks[0](model.stem(images))
    assert "_BlockBackward" not in graph(result)


def test_dropout_is_left_to_the_reference():
    _, model = pair(small_model(dropout=0.1), dtype=torch.float32)
    assert "_BlockBackward" not in graph(model(torch.randn(4, 3, 8, 8)))


def test_a_backward_pass_that_would_be_wrong_is_refused():
    fast = pair(small_model())[1]
    result = fast(torch.randn(4, 3, 8, 8, dtype=torch.float64)).sum()
    result.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        result.backward()
    result = fast(torch.randn(4, 3, 8, 8, dtype=torch.float64)).sum()
    with torch.no_grad():
        next(iter(learned_layers(fast).values())).weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.backward()


def test_costs_and_condensed_networks_are_those_of_the_reference():
    model, fast = pair(small_model(), stage=3, dtype=torch.float32)
    assert cost_table(fast) == cost_table(model)
    assert condense(fast, execution="reference").execution == "reference"
    assert condense(model).execution == "fast"
    assert fast.execution == "fast"


def test_a_copied_or_unpickled_network_computes_with_its_own_weights_at_once():
    _, fast = pair(small_model(), stage=2)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    before = fast(images)
    for again in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert again.execution == "fast"
        with torch.no_grad():
            for layer in learned_layers(again).values():
                layer.weight.mul_(2)
        assert "_BlockBackward" in graph(again(images))
        assert not again(images).equal(before)
        assert fast(images).equal(before)


def test_engines_are_no_part_of_a_networks_state():
    model, fast = pair(small_model())
    fast(torch.randn(4, 3, 8, 8, dtype=torch.float64))
    assert list(fast.state_dict()) == list(model.state_dict())


def test_an_unknown_execution_is_refused():
    with pytest.raises(ValueError, match="execution 'quick': must be one of reference, fast"):
        use(CondenseNet(small_model(), seed=0), "quick")


def test_the_face_and_the_network_load_no_compiler():
    program = (
        "import sys; from condense_core import CondenseNet, Trainer, condense, fast; fast.use\n"
        "import condense_core.deploy.plan; assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_numba_the_reference_runs_and_it_is_said():
    program = """
import sys
sys.modules["numba"] = None
import torch
from condense_core import CondenseNet, PRESETS, fast
model = CondenseNet(PRESETS["condensenet-50"], seed=0)
fast.use(model)
print(tuple(model(torch.zeros(2, 3, 32, 32)).shape))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "(2, 10)\n"
    assert "execution 'fast' is not available" in done.stderr
    assert "the slower reference is used" in done.stderr


COMPILE = """
import numpy as np
from condense_core.fast.kernels.pooling import pool

pool(np.ones((1, 2, 2)), np.empty((1, 1, 1)), 0, 1)
print(sum(pool.stats.cache_hits.values()))
"""


def test_kernels_are_compiled_anew_when_code_that_they_are_made_of_has_changed(tmp_path):
    code = tmp_path / "condense_core"
    shutil.copytree(Path(engines.__file__).parent.parent, code, ignore=shutil.ignore_patterns("__pycache__"))

    def hits() -> int:
        call = [sys.executable, "-c", COMPILE]
        return int(subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, check=True).stdout)

    assert [hits(), hits()] == [0, 1]
    path = code / "fast" / "kernels" / "microkernels.py"
    path.write_text(path.read_text().replace("LANES = 16", "LANES = 32"))
    assert hits() == 0


def test_the_kernels_folder_is_hashed_with_every_file_in_it_and_below(tmp_path):
    folder = tmp_path / "kernels"
    shutil.copytree(kernels.__path__[0], folder, ignore=shutil.ignore_patterns("__pycache__"))
    seen = [fingerprint(folder)]
    for path, code in (("new.py", "A = 1"), ("parts/new.py", "A = 1"), ("parts/new.py", "A = 2")):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(code)
        seen.append(fingerprint(folder))
    (folder / "new.py").rename(folder / "newer.py")
    seen.append(fingerprint(folder))
    assert len(set(seen)) == len(seen)
    (folder / "notes.md").write_text("no code")
    assert fingerprint(folder) == seen[-1]


def test_kernels_compute_the_same_whether_compiled_now_or_read():
    """A part that two kernels bring along, each rounded in its own way, is the first one's for both."""
    names = [module.name for module in pkgutil.iter_modules(kernels.__path__, kernels.__name__ + ".")]
    modules = [importlib.import_module(name) for name in names]
    every = {name: value for module in modules for name, value in vars(module).items()}
    found = {name: value for name, value in every.items() if isinstance(value, Dispatcher)}
    kept = {name for name, value in found.items() if isinstance(value._cache, FunctionCache)}
    assert len(kept) > 15
    assert not kept & {name for value in found.values() for name in value.py_func.__code__.co_names}


def freeze(norm: nn.BatchNorm2d) -> None:
    norm.eval().requires_grad_(False)


def average(norm: nn.BatchNorm2d) -> None:
    norm.momentum = None  # a mean over all batches


def forget(norm: nn.BatchNorm2d) -> None:
    norm.running_mean = norm.running_var = norm.num_batches_tracked = None


@pytest.mark.parametrize("change", [freeze, average, forget])
def test_a_batch_norm_that_is_frozen_or_of_another_kind_is_left_to_the_reference(change):
    model, fast = pair(small_model(), stage=1)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for network in (model, fast):
        change(network.train().blocks.block2[1].norm1)
        network(images).square().sum().backward()
    for (name, theirs), ours in zip(model.named_buffers(), fast.buffers(), strict=True):
        assert difference(ours.double(), theirs.double()) < 1e-11, name
    for (name, theirs), ours in zip(model.named_parameters(), fast.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        assert ours.grad is None or difference(ours.grad, theirs.grad) < 1e-11, name


@pytest.mark.parametrize("condensed", [False, True])
def test_modules_that_the_kernels_do_not_know_are_left_to_the_reference(condensed):
    model, fast = pair(small_model(), stage=3)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pairs = [(model, fast)]
    if condensed:
        pairs = [(condense(model), condense(model))]
        use(pairs[0][1])
    with torch.no_grad():
        for reference, ours in pairs:
            for network in (reference, ours):
                network.eval().blocks.block2[1].relu2 = nn.SiLU()
                network.blocks.block3[0].norm1.train()
            assert difference(ours(images), reference(images)) < 1e-11
