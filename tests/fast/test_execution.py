"""Programs give the reference's numbers."""

from __future__ import annotations

import copy
import importlib
import math
import os
import pkgutil
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.runs import small_model, small_run
from hypothesis import given, settings, strategies as st
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher
from torch import Tensor, nn

from condense_core import CondenseNet, ModelConfig, RecipeConfig, Trainer, fast
from condense_core.condensation import group_lasso, learned_layers, prune
from condense_core.fast import engines, kernels
from condense_core.fast.kernels.compilation import fingerprint
from condense_core.fast.program import Programs
from condense_core.learning import momentum_descent

LASSO = 1e-3


class Side:
    """A network in one stage with its optimizer; two sides of one configuration are equal."""

    def __init__(self, config: ModelConfig, stage: int = 0, dtype: torch.dtype = torch.float64):
        self.model = CondenseNet(config, seed=0).to(dtype).train()
        for layer in learned_layers(self.model).values():
            prune(layer, min(stage, layer.condense_factor - 1))
        self.optimizer = momentum_descent(self.model, RecipeConfig())
        self.programs = Programs(self.model)

    def by_program(self, images: Tensor, labels: Tensor) -> tuple[float, int, float] | None:
        """Take a step by a program."""
        return self.programs.train(images, labels, self.optimizer, LASSO)

    def as_written(self, images: Tensor, labels: Tensor) -> tuple[float, int, float]:
        """Take the same step by the reference."""
        logits = self.model(images)
        loss, lasso = F.cross_entropy(logits, labels), LASSO * group_lasso(self.model)
        self.optimizer.zero_grad()
        (loss + lasso).backward()
        self.optimizer.step()
        return loss.item(), int((logits.argmax(1) != labels).sum()), lasso.item()

    @torch.no_grad()
    def evaluated(self, images: Tensor) -> Tensor:
        """Return the logits by a program in evaluation mode."""
        self.model.eval()
        try:
            return self.programs(images)
        finally:
            self.model.train()

    def state(self) -> dict[str, Tensor]:
        """Return weights, statistics, masks and momenta."""
        momenta = {
            f"momentum.{name}": self.optimizer.state[own]["momentum_buffer"]
            for name, own in self.model.named_parameters()
        }
        return {**self.model.state_dict(), **momenta}


def batch(count: int, size: int = 8, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(count)
    images = torch.randn(count, 3, size, size, dtype=dtype, generator=draws)
    return images.to(memory_format=torch.channels_last), torch.randint(10, (count,), generator=draws)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference relative to the largest number."""
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))


def check(ours: Side, theirs: Side, counts: tuple[int, ...], tolerance: float) -> None:
    """Compare steps on batches of these sizes, then the state, then an evaluation."""
    parameter = next(ours.model.parameters())
    size, dtype = ours.model.config.image_size, parameter.dtype
    for count in counts:
        found, expected = (
            ours.by_program(*batch(count, size, dtype)),
            theirs.as_written(*batch(count, size, dtype)),
        )
        assert found == pytest.approx(expected, rel=tolerance)
    state = ours.state()
    for name, tensor in theirs.state().items():
        assert difference(state[name], tensor) < tolerance, name
    images, _ = batch(70, size, dtype)
    with torch.no_grad():
        expected = theirs.model.eval()(images)
    assert difference(ours.evaluated(images), expected) < tolerance


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
def test_steps_and_evaluations_are_the_references(stage, dtype, threads, images):
    torch.set_num_threads(threads)
    ours, theirs = (Side(small_model(), stage, dtype) for _ in range(2))
    check(ours, theirs, (images, images, 2), 1e-10 if dtype == torch.float64 else 1e-3)


@settings(max_examples=12)
@given(
    grouping=st.sampled_from(["learned", "random", "independent", "sequential", "unstructured", "none"]),
    connectivity=st.sampled_from(["full", "block"]),
    groups=st.sampled_from([1, 2, 4]),
    condense_factor=st.sampled_from([1, 2, 3, 4]),
    groups_3x3=st.sampled_from([1, 2]),
    growth=st.sampled_from([(2, 4), (4, 6), (6, 10)]),
    permute=st.booleans(),
    classifier_pruning=st.booleans(),
    image_size=st.sampled_from([5, 8, 13, 24]),
    stem_stride=st.sampled_from([1, 2]),
    images=st.sampled_from([2, 5, 17]),
    is_uneven=st.booleans(),
)
def test_every_configuration_gives_the_references_numbers(images, is_uneven, **model):
    if model["grouping"] == "none":
        model |= {"groups": 1, "condense_factor": 1}
    if is_uneven and model["grouping"] in ("learned", "unstructured"):
        model |= {"condense_factors": (4, 1, 2, 3)[: 3 + (model["connectivity"] == "block")]}
    config = ModelConfig(stages=(2, 1), **model)
    ours, theirs = (Side(config, stage=config.last_stage) for _ in range(2))
    check(ours, theirs, (images, images), 1e-9)


def test_a_run_stays_close_to_the_reference_and_repeats_itself(digits):
    """In float64, where no ReLU flips on rounding."""
    ends = []
    for name in ("reference", "fast", "fast"):
        trainer = Trainer(replace(small_run(), execution=name), digits)
        trainer.model.double()
        optimizer = momentum_descent(trainer.model, trainer.config.recipe)
        trainer.optimizer = trainer.condensation.optimizer = optimizer
        for step, (images, labels) in enumerate(digits.training_batches(0, 0, 64, 0)):
            list(trainer.enter_stages())
            trainer.train_on(images.double(), labels)
            if step == 2:
                break
        ends.append(torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()]))
    assert difference(ends[1], ends[0]) < 1e-9
    assert ends[1].equal(ends[2])


def test_what_is_not_a_number_stays_one():
    side = Side(small_model())
    images, labels = batch(4)
    images[1, 0, 3, 3] = torch.nan
    loss, *_ = side.by_program(images, labels)
    assert math.isnan(loss)


def pruned(side: Side) -> None:
    for layer in learned_layers(side.model).values():
        prune(layer, 2, side.optimizer.state[layer.weight]["momentum_buffer"])


def with_other_weights(side: Side) -> None:
    with torch.no_grad():
        side.model.blocks.block2[1].conv1.weight.mul_(2)
    side.model.stem.weight.data = 2 * side.model.stem.weight.data


def with_other_momenta(side: Side) -> None:
    for state in side.optimizer.state.values():
        state["momentum_buffer"] = torch.zeros_like(state["momentum_buffer"])


def in_float32(side: Side) -> None:
    side.model.float()
    side.optimizer = momentum_descent(side.model, RecipeConfig())


def with_two_threads(side: Side) -> None:
    torch.set_num_threads(2)


@pytest.mark.parametrize(
    "change", [pruned, with_other_weights, with_other_momenta, in_float32, with_two_threads]
)
def test_programs_follow_what_changes_between_steps(change):
    ours, theirs = (Side(small_model()) for _ in range(2))
    for side in (ours, theirs):
        (side.by_program if side is ours else side.as_written)(*batch(17))
        change(side)
    check(ours, theirs, (17, 5), 1e-3 if change is in_float32 else 1e-10)


def with_a_hook(model: CondenseNet) -> None:
    model.blocks[0][0].conv1.register_forward_hook(lambda *_: None)


def in_float16(model: CondenseNet) -> None:
    model.half()


def with_another_activation(model: CondenseNet) -> None:
    model.blocks.block2[1].relu2 = nn.SiLU()


def frozen(model: CondenseNet) -> None:
    model.blocks.block2[1].norm1.eval().requires_grad_(False)


def averaging(model: CondenseNet) -> None:
    model.blocks.block2[1].norm1.momentum = None  # a mean over all batches


def without_statistics(model: CondenseNet) -> None:
    norm = model.blocks.block2[1].norm1
    norm.running_mean = norm.running_var = norm.num_batches_tracked = None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (with_a_hook, "hooks"),
        (in_float16, "torch.float16"),
        (with_another_activation, "blocks.block2.1"),
        (frozen, "frozen parameters"),
        (averaging, "batch norms"),
        (without_statistics, "batch norms"),
    ],
)
def test_what_programs_cannot_compute_is_left_to_the_reference_and_said_once(change, named):
    side = Side(small_model(), dtype=torch.float32)
    assert side.by_program(*batch(4, dtype=torch.float32)) is not None
    change(side.model)
    images, labels = batch(4, dtype=next(side.model.parameters()).dtype)
    with pytest.warns(UserWarning, match=f"execution 'fast' cannot compute .*{named}"):
        assert side.by_program(images, labels) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert side.by_program(images, labels) is None


def test_dropout_is_left_to_the_reference(digits):
    reference, fast_one = (
        Trainer(replace(small_run(dropout=0.1), execution=name), digits) for name in ("reference", "fast")
    )
    list(reference.run(lambda: reference.step == 2))
    with pytest.warns(UserWarning, match="execution 'fast' cannot compute dropout"):
        list(fast_one.run(lambda: fast_one.step == 2))
    for (name, theirs), ours in zip(
        reference.model.named_parameters(), fast_one.model.parameters(), strict=True
    ):
        assert ours.equal(theirs), name


def test_a_copied_network_computes_with_its_own_weights():
    side = Side(small_model(), stage=2)
    side.by_program(*batch(17))
    again = copy.deepcopy(side)
    with torch.no_grad():
        again.model.stem.weight.mul_(2)
    expected, doubled = (own.evaluated(batch(5)[0]) for own in (side, again))
    assert not doubled.equal(expected)
    assert side.evaluated(batch(5)[0]).equal(expected)


def test_an_unknown_execution_is_refused():
    with pytest.raises(ValueError, match="execution 'quick': must be one of reference, fast"):
        fast.use(CondenseNet(small_model(), seed=0), "quick")


def test_the_face_and_the_network_load_no_compiler():
    program = (
        "import sys; from condense_core import CondenseNet, Trainer, condense, fast; fast.use, fast.programs\n"
        "import condense_core.deploy.plan; assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_numba_the_reference_runs_and_it_is_said():
    program = """
import sys
sys.modules["numba"] = None
import torch
from condense_core import CondenseNet, PRESETS, condense, fast
model = condense(CondenseNet(PRESETS["condensenet-50"], seed=0))
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

pool(np.ones((1, 1, 2, 2, 1)), 1, np.empty((1, 1, 1, 1, 1)), 0, 1)
print(sum(pool.stats.cache_hits.values()))
"""


def test_kernels_are_compiled_anew_when_code_that_they_are_made_of_has_changed(tmp_path):
    code = tmp_path / "condense_core"
    shutil.copytree(Path(engines.__file__).parent.parent, code, ignore=shutil.ignore_patterns("__pycache__"))

    def hits() -> int:
        call = [sys.executable, "-c", COMPILE]
        return int(subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, check=True).stdout)

    assert [hits(), hits()] == [0, 1]
    path = code / "fast" / "kernels" / "vectors.py"
    path.write_text(path.read_text().replace("LANES = 16", "LANES = 32"))
    assert hits() == 0


COMPILE_TOGETHER = """
import numpy as np
from condense_core.fast.kernels import norms, pooling
from condense_core.fast.kernels.compilation import compiled

ones, image = np.ones((1, 1, 2, 2, 1)), np.empty((1, 1, 1, 1, 1))
moments = np.ones((1, 2)), np.ones((1, 2))
calls = [
    (pooling.pool, (ones, 1, image, 0, 1)), (pooling.pool_backward, (image, 1, ones, 0, 1)),
    (norms.statistics, (ones[..., 0, 0], 1, *moments, 0, 1)), (np.add, (ones, ones)),
]
seen = list(compiled(calls))
assert list(compiled(calls)) == []
print(seen, sum(sum(call.stats.cache_misses.values()) for call, _ in calls[:3]))
"""


def test_processes_that_need_the_same_kernels_compile_each_of_them_once(tmp_path):
    call, environment = (
        [sys.executable, "-c", COMPILE_TOGETHER],
        os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
    )
    processes = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    said = [process.communicate(timeout=300)[0] for process in processes]
    counts = [int(words.split("] ")[1]) for words in said]
    assert sum(counts) == 3
    for words, count in zip(said, counts, strict=True):
        assert words.startswith("[]") == (count == 0)
        assert count == 0 or "(3, 3)] " in words


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
