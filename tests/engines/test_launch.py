"""Every engine is launched alike: check, prepare, enter the study, train."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from helpers.runs import small_run

from analysis.engines import Launch, Outcome, connect
from analysis.engines.engine import Engine
from analysis.engines.processes import ProcessEngine, ThisProcess
from analysis.engines.single_run import execute
from analysis.engines.stopping import StopSwitch
from analysis.engines.torchrun import TorchrunEngine
from condense_core.store import Changed, RunStore, provenance

DATA = Path("data")
CONFIGS = [small_run(seed) for seed in range(2)]


@dataclass
class ToyEngine(Engine):
    """Notes what it is asked for, and trains nothing."""

    refuses: str = ""
    asked: list[str] = field(default_factory=list)

    def slots(self, config, jobs=None):
        return 1

    def check(self, config):
        self.asked.append("check")
        if self.refuses:
            raise ValueError(self.refuses)

    def load_data(self, data, data_dir):
        self.asked.append("load")
        return "these images"

    def execute_all(self, configs, store, data_dir, jobs, stop, force=False):
        for config in configs:
            self.asked.append(config.name)
            yield Outcome(config.name, "done")


class ThisProcessThatNotes(ThisProcess):
    """Trains here, with the list that `train` writes to."""

    def __init__(self):
        self.asked = []


def train(engine, store, force=False):
    """Launch the runs, and return their outcomes and what the engine was asked for."""

    def enter(store):
        assert store.root.is_dir()
        engine.asked.append("enter")
        return "a note"

    with Launch(engine, CONFIGS, store, DATA, force).prepared(enter) as training:
        assert training.note == "a note"
        return training.with_bar(None, progress=False)


def test_an_engine_checks_loads_once_and_trains_after_the_study_is_entered(store):
    engine = ToyEngine()
    outcomes = train(engine, store)
    assert engine.asked == ["check", "check", "load", "enter", *(config.name for config in CONFIGS)]
    assert [outcome.state for outcome in outcomes] == ["done"] * 2


def test_finished_runs_are_neither_loaded_nor_trained_again(store):
    first = train(ThisProcessThatNotes(), store)
    engine = ToyEngine()
    assert train(engine, store) == first
    assert engine.asked == ["check", "check", "enter"]


def test_an_engine_that_cannot_train_a_run_is_refused_before_anything_is_written(tmp_path):
    store, engine = RunStore(tmp_path / "runs"), ToyEngine(refuses="too large")
    with pytest.raises(ValueError, match="too large"):
        train(engine, store)
    assert engine.asked == ["check"]
    assert not store.root.exists()


@pytest.fixture
def interrupted(store):
    """A run that was stopped on its way."""
    polls = count(1)
    assert execute(CONFIGS[0], store, DATA, lambda: next(polls) > 3).state == "stopped"
    return store.run(CONFIGS[0])


def test_started_runs_are_refused_if_the_code_changed_unless_that_is_forced(store, interrupted, monkeypatch):
    now = provenance.environment() | {"code": "0123456789ab"}
    monkeypatch.setattr(provenance, "environment", lambda: now)
    engine = ToyEngine()
    with pytest.raises(Changed, match=f"1 run was started with different code.*are kept .{interrupted.name}"):
        train(engine, store)
    assert engine.asked == ["check", "check", "load"]
    assert [outcome.state for outcome in train(engine, store, force=True)] == ["done"] * 2


def test_a_damaged_run_is_named_before_data_is_loaded(store, interrupted):
    (interrupted.folder / "metrics.jsonl").write_text("[]\n{}\n")
    engine = ToyEngine()
    with pytest.raises(ValueError, match=r"metrics.jsonl.*remove the run's folder to train it again"):
        train(engine, store)
    assert engine.asked == ["check", "check"]


@pytest.mark.parametrize(
    ("here", "environment", "kind"),
    [
        (False, {}, ProcessEngine),
        (True, {}, ThisProcess),
        (False, {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}, TorchrunEngine),
    ],
)
def test_processes_are_this_one_several_or_the_ranks_of_torchrun(here, environment, kind, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with connect("processes", in_this_process=here) as engine:
        assert type(engine) is kind
        assert engine.slots(CONFIGS[0], 3) == (3 if kind is ProcessEngine else 1)


def test_a_signal_can_set_the_switch_at_any_moment():
    stop = StopSwitch()
    before = signal.signal(signal.SIGALRM, lambda *_: stop.set())
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            stop.is_set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert stop.is_set()
    assert not stop.is_at_once()
