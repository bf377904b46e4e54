"""One process per run: on one machine by the system's lock, from another one by its heartbeat."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.processes import in_a_process
from helpers.runs import small_run

from analysis.engines.single_run import execute
from condense_core.store import RunHeld, RunStore, locks
from condense_core.store.locks import hold

SECONDS = 300  # for a moment's work, on a machine that may be busy
HOLDS = """
import sys, time
from pathlib import Path
from condense_core.store import locks
locks.BEAT_SECONDS = 0.05
if sys.argv[2] == "elsewhere":
    locks.socket.gethostname = lambda: "elsewhere"
with locks.hold(Path(sys.argv[1]), "run"):
    print("holds", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds 'run', on this machine or as one elsewhere."""
    started = []

    def start(where: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(tmp_path), where], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "holds\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def other_machine(monkeypatch):
    """Locks of the system do not reach from here to the holder, as on many shared file systems."""
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(locks, "SILENCE_SECONDS", 1.0)

    def unknown(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(locks.FileLock, "acquire", unknown)


def test_a_second_process_says_who_holds_the_run_and_leaves(tmp_path, holder):
    process = holder("here")
    with (
        pytest.raises(RunHeld, match=f"by process {process.pid} on {socket.gethostname()}"),
        hold(tmp_path, "run"),
    ):
        pass


def test_a_run_that_is_held_is_not_trained_and_its_outcome_says_by_whom(tmp_path):
    store = RunStore(tmp_path)
    store.create()
    with store.run(small_run()).hold():
        outcome = execute(small_run(), store, Path("data"))
    assert outcome.state == "held"
    assert f"process {os.getpid()} on" in outcome.reason
    assert not store.run(small_run()).started


def test_a_lock_whose_holder_was_killed_is_taken_over_at_once(tmp_path, holder):
    process = holder("here")
    process.kill()
    process.wait()
    with hold(tmp_path, "run") as held:
        assert not list(tmp_path.glob("run.1"))
        held.check()
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


def test_from_another_machine_a_heartbeat_is_seen_and_its_process_named(tmp_path, holder, other_machine):
    process = holder("elsewhere")
    with pytest.raises(RunHeld, match=f"by process {process.pid} on elsewhere"), hold(tmp_path, "run"):
        pass


def test_from_another_machine_a_run_whose_holder_was_killed_is_taken_over_once_it_is_silent(
    tmp_path, holder, other_machine
):
    holder("elsewhere").kill()
    began = time.monotonic()
    with hold(tmp_path, "run") as held:
        assert time.monotonic() - began >= locks.SILENCE_SECONDS
        held.check()


def test_of_two_that_wait_for_the_same_silent_holder_one_gets_the_run(tmp_path, other_machine):
    (tmp_path / "run.3").write_text('{"process": 1, "host": "elsewhere", "beats": 7}')

    refused = tmp_path / "refused"

    def wait() -> None:
        try:
            with hold(tmp_path, "run"):
                until = time.monotonic() + SECONDS
                while not refused.exists() and time.monotonic() < until:
                    time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGUSR1)
        except RunHeld:
            refused.touch()

    if not (other := os.fork()):
        os._exit(in_a_process(wait))
    ours = in_a_process(wait)
    theirs = os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])
    assert sorted((ours, theirs)) == [0, signal.SIGUSR1]


def test_a_holder_that_was_silent_too_long_writes_no_more(tmp_path, other_machine):
    with hold(tmp_path, "run") as slept:
        slept.claim.rename(tmp_path / "run.2")  # as one does that took over
        until = time.monotonic() + SECONDS
        while not slept._lost and time.monotonic() < until:
            time.sleep(0.05)
        with pytest.raises(RunHeld, match="was taken over"):
            slept.check()


@pytest.mark.parametrize("shift", [-86_400, 86_400])
def test_a_clock_that_is_set_back_or_on_changes_nothing(tmp_path, other_machine, monkeypatch, shift):
    real = time.time
    with hold(tmp_path, "run"):
        monkeypatch.setattr(time, "time", lambda: real() + shift)
        os.utime(tmp_path / "run.1", (real() + shift,) * 2)
        with pytest.raises(RunHeld), hold(tmp_path, "run"):
            pass
