"""A plan is made by few quick steps, whatever is planned, and says what it has extrapolated."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from analysis import studies
from analysis.ablate import ablate
from analysis.studies import step_times
from analysis.studies.step_times import MAX_STEP_LAYERS, MAX_STEP_MACS, StepTime, time_image
from condense_core import DataConfig, ModelConfig, RecipeConfig, RunConfig, cost_table
from condense_core.store import RunStore

SMALL = ModelConfig(stages=(2, 2), growth=(4, 8), groups_3x3=2, image_size=8)
HUGE = {
    "layers": ModelConfig((1000,), (4,), groups_3x3=2, image_size=8),
    "blocks": ModelConfig((100,) * 10, (4,) * 10, groups_3x3=2, image_size=1024),
    "growth": ModelConfig((4, 4), (4096, 8192), groups_3x3=2, image_size=8),
    "bottleneck": ModelConfig((4, 4), (64, 128), bottleneck=4096, groups_3x3=2, image_size=8),
    "images": dataclasses.replace(SMALL, image_size=16_384),
    "factor": dataclasses.replace(SMALL, condense_factor=1024),
    "dense": ModelConfig((300,), (64,), grouping="none", groups=1, condense_factor=1, groups_3x3=1),
    "classes": dataclasses.replace(SMALL, num_classes=100_000),
}


@pytest.fixture
def timed(monkeypatch) -> list[tuple[RunConfig, int]]:
    """Note which steps would be timed, and let each take a microsecond for a million MACs."""
    calls: list[tuple[RunConfig, int]] = []

    def note(config: RunConfig, batch: int) -> float:
        calls.append((config, batch))
        return 1e-12 * cost_table(config.model, 0).macs

    monkeypatch.setattr(step_times, "_time_steps", note)
    return calls


@pytest.mark.parametrize("batch", [64, 100_000_000])
@pytest.mark.parametrize("name", HUGE)
def test_the_steps_that_are_timed_are_quick(timed, name, batch):
    config = RunConfig(HUGE[name], RecipeConfig(batch_size=batch), DataConfig("digits"))
    found = time_image(config, 1_200_000)
    (small, images), model = timed[0], HUGE[name]
    assert 3 * images * cost_table(small.model, 0).macs <= MAX_STEP_MACS
    assert 3 * images * small.model.image_size**2 <= step_times.MAX_STEP_NUMBERS
    assert sum(small.model.stages) <= MAX_STEP_LAYERS
    assert found.seconds == pytest.approx(1e-12 * cost_table(model, 0).macs)
    assert found.is_extrapolated == (small.model != model)


def test_a_plan_times_two_networks_and_says_what_is_extrapolated(timed, tmp_path):
    store = RunStore(tmp_path / "runs")
    for settings, extrapolated in (({}, False), ({"stages": (400, 400), "match": "width"}, True)):
        timed.clear()
        rows = studies.plan(studies.Study.named("ablation", **settings), store)
        assert len(timed) == 2
        assert any(row["is_extrapolated"] for row in rows) == extrapolated
        assert all(row["estimated_seconds"] > 0 for row in rows)


def test_the_command_says_so(timed, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ablate.main(["--stages", "400,400", "--match", "width", "--dry-run"], standalone_mode=False)
    assert "extrapolated by MACs from a smaller network" in capsys.readouterr().out
    assert not any(tmp_path.iterdir())


def test_timing_leaves_the_process_as_it_was():
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    config = RunConfig(SMALL, RecipeConfig(batch_size=4), DataConfig("digits"), threads=1)
    assert isinstance(time_image(config, 8), StepTime)
    assert torch.get_rng_state().equal(before)
    assert torch.get_num_threads() == threads
