"""A finished run in a study, which hostile tests damage; limits; and commands as users call them."""

from __future__ import annotations

import shutil
import sys

import pytest
from helpers.limits import limited
from helpers.runs import BENCHMARK, small_model, small_run

from analysis.cli import main
from analysis.engines.single_run import execute
from analysis.reporting import StudyReport
from condense_core.store import Run, RunStore

VARIANT = {"size": 4, "residual": 0.0, "curve": None}


@pytest.fixture
def bounded():
    """Fail a test that takes twenty seconds or half a gigabyte, no matter what it reads."""
    assert small_model()  # late imports do not count
    with limited(20, 512 << 20):
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> RunStore:
    """A finished run and a copy of it, in a study of their own, with measured times."""
    store = RunStore(tmp_path_factory.mktemp("hostile") / "runs")
    store.create()
    assert execute(small_run(), store, store.root).state == "done"
    run = store.runs()[0].name
    shutil.copytree(store.root / run, store.root / "sound")
    base = {**VARIANT, "label": "learned-exponential-full-k4", "role": "base", "runs": [run]}
    other = {**VARIANT, "label": "another", "role": "grid", "runs": ["sound"]}
    study = {"name": "one", "question": "?", "settings": {"data": "digits"}, "variants": [base, other]}
    store.write_study("one", study)
    store.write_benchmark(BENCHMARK)
    return store


@pytest.fixture
def run(store) -> Run:
    """The run that a test damages."""
    return next(run for run in store.runs() if run.name != "sound")


@pytest.fixture
def without_figures(monkeypatch):
    """Leave out the figures of reports, which take seconds."""
    monkeypatch.setattr(StudyReport, "figures", [])


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Call a command and return its exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(command, *arguments):
        monkeypatch.setattr(sys, "argv", [command.name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main(command)
        return ended.value.code, *capsys.readouterr()

    return call
