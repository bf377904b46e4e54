"""Small real data and small networks that the tests share."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker a core: more threads would only wait for one another

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from analysis.studies import Study
from condense_core import DataConfig, ModelConfig, RecipeConfig, RunConfig
from condense_core.data import Dataset, load
from condense_core.store import RunStore

settings.register_profile("condense", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("condense")

torch.ones(1, requires_grad=True).sum().backward()  # before any fork: from then on a child can do it too
EXECUTION = os.environ.get("CONDENSE_TEST_EXECUTION", "reference")  # of the runs that tests train

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def small_model(**settings) -> ModelConfig:
    """Three blocks on 8-pixel images, in a second's training."""
    defaults = {"stages": (1, 2, 1), "growth": (4, 8, 16), "groups_3x3": 2, "image_size": 8}
    return ModelConfig(**defaults | settings)


def small_run(seed: int = 0, **settings) -> RunConfig:
    """A run of `small_model` on a part of the digits: 6 epochs of 3 steps."""
    recipe = RecipeConfig(epochs=6, group_lasso=1e-4)
    return RunConfig(
        small_model(**settings), recipe, DataConfig("digits", train_images=192), seed, execution=EXECUTION
    )


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The part of the digits that `small_run` trains on."""
    return load(DataConfig("digits", train_images=192))


@pytest.fixture
def store(tmp_path) -> RunStore:
    """An empty run store."""
    store = RunStore(tmp_path / "runs")
    store.create()
    return store


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made but not written as SVG, which takes a second a report and is tested elsewhere."""
    monkeypatch.setattr("analysis.reporting.figures.Picture.svg", "<svg/>")


SMALL_STUDY = {
    "name": "small",
    "device": "cpu",
    "stages": (2, 1, 1),
    "sizes": (2,),
    "seeds": 2,
    "epochs": 4,
    "train_images": 128,
    "match": "width",
    "execution": EXECUTION,
}


@pytest.fixture(scope="session")
def small_study() -> Study:
    """Grouping × growth × connectivity at two sizes with two seeds, in seconds."""
    return Study.named("ablation", **SMALL_STUDY)


@pytest.fixture(scope="session")
def small_store(small_study, tmp_path_factory, worker_id) -> RunStore:
    """The small study, trained once for all test processes. No test may write to it."""
    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "small-study" / "runs"
    root.parent.mkdir(exist_ok=True)
    with FileLock(root.with_suffix(".lock")):
        small_study.run(root)
    return RunStore(root)
