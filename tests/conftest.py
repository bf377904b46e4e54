"""Small real data, stores and studies that the tests share."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one worker per core: more threads would only wait

import pytest
import torch
from filelock import FileLock
from helpers.runs import SMALL_STUDY
from hypothesis import settings

from analysis.studies import Study
from condense_core import DataConfig
from condense_core.data import Dataset, load
from condense_core.store import RunStore

settings.register_profile("condense", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("condense")

torch.ones(1, requires_grad=True).sum().backward()  # before any fork, so that children can do it too


@pytest.fixture(autouse=True)
def one_thread():
    """Reset the number of threads, which tests may change."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_plans(tmp_path_factory):
    """Keep the plans that tests measure out of the user's cache."""
    folder = tmp_path_factory.mktemp("plans")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("condense_core.deploy.remembered.folder", lambda: folder)
        yield


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
    """Make figures but write no SVG, which takes a second per report and is tested elsewhere."""
    monkeypatch.setattr("analysis.reporting.report_figure.ReportFigure.svg", "<svg/>")


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
