"""Steps as CUDA graphs, as far as that can be told without a GPU: here a replay computes the step."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers.runs import small_run

from condense_core import Trainer, fast
from condense_core.fast import cuda_graphs


@pytest.fixture
def graphs_on_the_cpu(monkeypatch) -> list[int]:
    """Graphs whose replay computes the captured step on its own buffers; counts captures and replays."""
    counts = [0, 0]

    def capture(step):
        counts[0] += 1
        result = torch.zeros(())

        def replay():
            counts[1] += 1
            result.copy_(step())

        return replay, result

    monkeypatch.setattr(fast, "steps_as_graph", lambda config: config.execution == "fast")
    monkeypatch.setattr(fast, "programs", lambda *_: None)  # as on a GPU
    monkeypatch.setattr(cuda_graphs, "capture", capture)
    monkeypatch.setattr(cuda_graphs, "on_side_stream", lambda step: step())
    return counts


def end_of(config, digits) -> torch.Tensor:
    trainer = Trainer(config, digits)
    list(trainer.run())
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def test_captured_steps_train_the_same_network(graphs_on_the_cpu, digits):
    config = dataclasses.replace(small_run(), execution="fast")
    graphed = end_of(config, digits)
    captures, replays = graphs_on_the_cpu
    assert captures == 4  # stages
    assert replays == 6 * 3 - 4  # all steps but the first of each stage
    written = end_of(dataclasses.replace(config, execution="reference"), digits)
    torch.testing.assert_close(graphed, written, rtol=1e-3, atol=1e-3)


def test_steps_are_graphs_on_a_gpu_unless_there_is_dropout():
    run = dataclasses.replace(small_run(), execution="fast", device="cuda")
    assert cuda_graphs.steps_as_graph(run)
    assert not cuda_graphs.steps_as_graph(dataclasses.replace(run, device="cpu"))
    assert not cuda_graphs.steps_as_graph(dataclasses.replace(run, execution="reference"))
    dropout = dataclasses.replace(run, model=small_run(dropout=0.1).model)
    assert not cuda_graphs.steps_as_graph(dropout)


@pytest.mark.parametrize("execution", ["reference", "fast"])
def test_no_step_waits_for_the_device(execution, monkeypatch, digits):
    trainer = Trainer(dataclasses.replace(small_run(), execution=execution), digits)
    trainer.model.train()
    list(trainer.enter_stages())
    batches = trainer.dataset.training_batches(0, 0, 64)
    trainer.train_on(*next(batches))

    def wait(*_, **__):
        raise AssertionError("a step waits for the device")

    for name in ("item", "tolist", "cpu", "__bool__", "__int__", "__float__"):
        monkeypatch.setattr(torch.Tensor, name, wait)
    for batch in batches:
        trainer.train_on(*batch)


def test_a_precision_names_the_run_and_needs_a_gpu():
    run = dataclasses.replace(small_run(), device="cuda")
    tf32 = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, precision="tf32"))
    assert tf32.name != run.name
    with pytest.raises(ValueError, match="precision 'tf32': needs device 'cuda'"):
        dataclasses.replace(tf32, device="cpu")
