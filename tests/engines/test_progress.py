"""How much time is left of a study, by what was trained so far."""

from __future__ import annotations

import pytest
from helpers.runs import row, small_run

from analysis.engines import progress
from analysis.engines.pace import Pace
from condense_core.config import RunConfig
from condense_core.store import RunStore

SMALL, LARGE = small_run(), small_run(growth=(8, 16, 32))


def train(store: RunStore, config: RunConfig, epochs: range, seconds: float, state: str = "running") -> None:
    with store.run(config).hold() as writer:
        writer.start(config, "images")
        for epoch in epochs:
            writer.append_epoch(row(epoch), seconds)
        writer.set_state(state)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_an_epoch_of_a_network_counts_by_what_such_epochs_took():
    pace = Pace({"a": (100, 1.0), "b": (100, 3.0), "c": (300, 6.0)})
    assert [pace.of(macs) for macs in (50, 100, 200, 300, 600)] == [2, 2, 4, 6, 12]
    assert Pace().of(100) == Pace().of(700)


def test_a_large_network_that_is_still_to_come_is_not_taken_for_a_small_one(store, clock):
    watch = progress.Watch(store, [SMALL, LARGE])
    assert watch.look()[2] is None
    train(store, SMALL, range(1, 7), 2.0, "done")
    clock[0] = 12.0
    finished, _, left = watch.look()
    ratio = watch.macs[LARGE.name] / watch.macs[SMALL.name]
    assert finished == 1
    assert ratio > 2
    assert left == pytest.approx(12.0 * ratio)
    train(store, LARGE, range(1, 4), 5.0)
    clock[0] = 27.0
    assert watch.look()[2] == pytest.approx(15.0)


def test_what_was_trained_before_tells_the_pace_but_took_no_time_now(store, clock):
    train(store, SMALL, range(1, 7), 2.0, "done")
    train(store, LARGE, range(1, 3), 5.0)
    watch = progress.Watch(store, [SMALL, LARGE])
    assert watch.look()[2] is None
    train(store, LARGE, range(3, 5), 5.0)
    clock[0] = 10.0
    assert watch.look()[2] == pytest.approx(10.0)
