"""What looks at a model leaves it, and the process, as it was: also frozen batch norms, and after an error."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import lived_in
from helpers.official_states import official_state
from helpers.runs import small_model
from torch import nn

from condense_core import (
    CondenseNet,
    condense,
    cost_table,
    fast,
    load_condensed,
    load_official,
    make_plan,
    save_condensed,
)
from condense_core.deploy import certify, export_file
from condense_core.evaluation import evaluate
from condense_core.looking import unchanged

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def of_process() -> dict[str, Any]:
    """Everything that torch, numpy and Python keep for the process, in a form that can be compared."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": repr(np.random.get_state()),
        "python": random.getstate(),
        "default type": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "gradients": torch.is_grad_enabled(),
    }


def of_model(model: nn.Module) -> dict[str, Any]:
    """Modes, hooks, what takes gradients, gradients, weights and buffers of a model."""
    modules = dict(model.named_modules())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs")
    return {
        "modes": {name: module.training for name, module in modules.items()},
        "hooks": {name: [list(vars(module)[kind]) for kind in hooks] for name, module in modules.items()},
        "takes gradients": {name: own.requires_grad for name, own in model.named_parameters()},
        "gradients": {name: id(own.grad) for name, own in model.named_parameters()},
        "weights": {name: own.tolist() for name, own in model.named_parameters()},
        "buffers": {name: own.tolist() for name, own in model.named_buffers()},
    }


def in_training(model: nn.Module) -> None:
    model.train()


def in_evaluation(model: nn.Module) -> None:
    model.eval()


def with_frozen_norms(model: nn.Module) -> None:
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)


def in_a_mix(model: nn.Module) -> None:
    """Every third module in evaluation, every second parameter frozen, gradients, and hooks of the user's."""
    for place, module in enumerate(model.modules()):
        module.training = place % 3 > 0
    for place, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(place % 2 > 0)
        parameter.grad = torch.ones_like(parameter) if place % 4 == 1 else None
    model.register_forward_hook(lambda *_: None)
    model.register_forward_pre_hook(lambda *_: None)


STATES: tuple[Callable[[nn.Module], None], ...] = (in_training, in_evaluation, with_frozen_norms, in_a_mix)


@dataclass(frozen=True)
class Look:
    """A function that looks at a model: what it needs, and the call."""

    call: Callable[..., object]
    of_condensed: bool = False


def count_all(model, folder):
    from analysis.networks import count_conventions

    return count_conventions(model)


def prepare_to_time(model, folder):
    from analysis.timing.runtimes import subject

    return subject("x", model, 8)


def plan_and_keep_the_execution(model, folder):
    make_plan(model, IMAGES, repeats=1)
    assert fast.execution_of(model) in ("fast", "reference")


def use_and_undo(model, folder):
    fast.use(model)
    fast.use(model, "reference")


def export(suffix: str) -> Callable[..., object]:
    def call(model, folder):
        with torch.no_grad():
            reference = copy.deepcopy(model).eval()(IMAGES)
        return export_file(model, folder / f"x{suffix}", IMAGES, reference)

    return call


LOOKS = {
    "cost_table": Look(lambda model, _: cost_table(model)),
    "cost_table of a condensed one": Look(lambda model, _: cost_table(model), of_condensed=True),
    "count_conventions": Look(count_all),
    "evaluate": Look(lambda model, _: evaluate(model, [(IMAGES, torch.tensor([0, 1, 2]))])),
    "condense": Look(lambda model, _: condense(model)),
    "condense, to be trained": Look(lambda model, _: condense(model, fold=False)),
    "certify": Look(lambda model, _: certify(model, condense(model), IMAGES, "noise")),
    "make_plan": Look(plan_and_keep_the_execution, of_condensed=True),
    "save_condensed": Look(lambda model, at: save_condensed(model, at / "x.safetensors"), of_condensed=True),
    "export to torch": Look(export(".pt2"), of_condensed=True),
    "export to ONNX": Look(export(".onnx"), of_condensed=True),
    "export to condense": Look(export(".safetensors"), of_condensed=True),
    "bench": Look(prepare_to_time),
    "fast.use": Look(use_and_undo),
}


@pytest.mark.parametrize(
    ("look", "state"),
    [(look, state) for look in LOOKS for state in STATES if state is in_a_mix or "export" not in look],
)
def test_looking_changes_nothing(tmp_path, look, state):
    model: nn.Module = lived_in(small_model())
    if LOOKS[look].of_condensed:
        model = condense(model, fold="export" in look or look == "make_plan")
    state(model)
    before, process = of_model(model), of_process()
    LOOKS[look].call(model, tmp_path)
    assert of_process() == process
    assert of_model(model) == before


@pytest.mark.parametrize(
    "look", ["cost_table", "count_conventions", "evaluate", "certify", "make_plan", "export to torch"]
)
def test_looking_changes_nothing_if_it_raises(tmp_path, look):
    model: nn.Module = lived_in(small_model())
    model = condense(model, fold=False, execution="reference") if LOOKS[look].of_condensed else model
    in_a_mix(model)
    model.blocks.block2.forward = lambda *_: 1 / 0
    model.blocks.block2[0].norm1.running_mean.add_(1)
    before, process = of_model(model), of_process()
    with pytest.raises((ZeroDivisionError, torch._dynamo.exc.TorchDynamoException)):
        LOOKS[look].call(model, tmp_path)
    assert of_process() == process
    assert of_model(model) == before
    assert fast.execution_of(model) == "reference"


def test_a_network_that_is_read_or_built_by_a_seed_takes_no_draws(tmp_path):
    model = lived_in(small_model(growth=(8, 8, 8), groups_3x3=4, image_size=32))
    torch.save(official_state(model), tmp_path / "c.pth")
    save_condensed(condense(model), tmp_path / "c.safetensors")
    from analysis.networks import compare_published, find_network
    from condense_core.store import RunStore

    process = of_process()
    CondenseNet(small_model(), seed=3)
    load_official(tmp_path / "c.pth")
    load_condensed(tmp_path / "c.safetensors")
    find_network("resnet-18", RunStore(tmp_path / "runs"))
    compare_published()
    assert of_process() == process


class Counting(nn.Module):
    """A layer that writes into its buffers, and into its weights when its mode is set, like some that merge."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)
        self.register_buffer("calls", torch.zeros(()))

    def train(self, mode: bool = True):
        self.layer.weight.data.zero_()
        return super().train(mode)

    def forward(self, x):
        self.calls = self.calls + 1
        torch.rand(1)
        torch.set_num_threads(3)
        return self.layer(x)


def test_a_network_of_others_is_left_alone_even_if_it_writes_into_itself():
    model = Counting()
    before, process = of_model(model), of_process()
    assert cost_table(model, image_size=8).macs == 12 * 64
    assert of_process() == process
    assert of_model(model) == before


def test_frozen_batch_norms_of_a_resnet_stay_frozen():
    from torchvision.models import resnet18

    model = resnet18()
    with_frozen_norms(model)
    cost_table(model, image_size=32)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 20
    assert not any(norm.training for norm in norms)


def test_the_block_may_change_what_it_likes():
    model, process = lived_in(small_model()), of_process()
    before = of_model(model)
    with unchanged(model):
        torch.manual_seed(9)
        np.random.seed(9)
        random.seed(9)
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        torch.set_grad_enabled(False)
        model.requires_grad_(False)
    assert of_process() == process
    assert of_model(model) == before
