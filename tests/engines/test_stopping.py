"""Signals, workers that die, disks that refuse, and odd places: how a study survives them."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from helpers.killed_worker import deadly
from helpers.processes import in_a_process
from helpers.runs import small_run

from analysis.cli import check_writable
from analysis.engines import processes
from analysis.engines.processes import PROCESSES, ProcessEngine, start_forkserver
from analysis.engines.single_run import execute
from analysis.engines.stopping import StopSwitch, stopping
from condense_core.store import RunStore
from condense_core.store.checkpoints import checkpoints

DATA = Path("data")
SECONDS = 300  # for a few seconds of work, on a machine that may be busy
LONG = """
import json, sys
from pathlib import Path
from analysis.engines.processes import ProcessEngine
from analysis.engines.stopping import StopSwitch, stopping
from condense_core import DataConfig, ModelConfig, RecipeConfig, RunConfig
from condense_core.store import RunStore

if __name__ == "__main__":
    model = ModelConfig(stages=(1, 1), growth=(4, 8), groups_3x3=2, image_size=8)
    config = RunConfig(model, RecipeConfig(epochs=5000), DataConfig("digits", train_images=64))
    store, stop = RunStore(Path(sys.argv[1])), StopSwitch()
    store.create()
    with stopping(stop):
        outcomes = list(ProcessEngine().execute_all([config], store, Path("data"), 1, stop))
    print(json.dumps([outcome.state for outcome in outcomes]))
"""


def interrupt(folder: Path, *signals: int) -> tuple[int, str, str]:
    """Exit status, output and errors of a long training whose processes all get some signals on the way."""
    (folder / "long.py").write_text(LONG)
    command = [sys.executable, folder / "long.py", folder / "runs"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until = time.monotonic() + SECONDS
    while (
        not any(path.stat().st_size for path in folder.glob("runs/*/metrics.jsonl"))
        and time.monotonic() < until
    ):
        time.sleep(0.05)
    for number in signals:
        os.killpg(process.pid, number)  # as a terminal or a scheduler does: the workers get it too
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def test_at_sigterm_as_at_ctrl_c_a_run_saves_its_state_and_ends_cleanly(tmp_path):
    status, out, err = interrupt(tmp_path, signal.SIGTERM)
    assert (status, json.loads(out)) == (0, ["stopped"]), err
    assert "Traceback" not in err
    (run,) = RunStore(tmp_path / "runs").runs()
    assert run.status["state"] == "stopped"
    assert run.load_checkpoint()[0][1]["epoch"] == len(run.epochs()) > 0


def blocked_signals(process: int) -> int:
    """The signals that a process does not take at present, as a mask."""
    _, _, rest = Path(f"/proc/{process}/status").read_text().partition("SigBlk:")
    return int(rest.split()[0], 16)


def test_a_signal_to_all_does_not_end_the_process_that_waits_for_the_workers():
    """A worker may take long to save its run: if its parent were gone by then, it would be taken for dead."""
    obeyed = 1 << (signal.SIGTERM - 1) | 1 << (signal.SIGHUP - 1)
    start_forkserver()
    with ProcessPoolExecutor(
        1, PROCESSES, initializer=processes._start_worker, initargs=[StopSwitch()]
    ) as pool:
        worker, parent = pool.submit(os.getpid).result(), pool.submit(os.getppid).result()
        assert blocked_signals(parent) & obeyed == obeyed
        assert not blocked_signals(worker) & obeyed
    assert not blocked_signals(os.getpid()) & obeyed


@pytest.fixture
def hangup():
    """Let a test say what SIGHUP does at first; under nohup it is ignored in the tests as well."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda what: signal.signal(signal.SIGHUP, what)
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_sets_the_switch(number, hangup):
    hangup(signal.SIG_DFL)
    before, stop = signal.getsignal(number), StopSwitch()
    with stopping(stop):
        signal.raise_signal(number)
    assert stop.is_set()
    assert signal.getsignal(number) is before


def test_under_nohup_a_study_goes_on_when_its_terminal_is_closed(hangup):
    hangup(signal.SIG_IGN)
    with stopping(stop := StopSwitch()):
        signal.raise_signal(signal.SIGHUP)
    assert not stop.is_set()


def test_a_study_that_is_killed_alone_leaves_no_worker_that_trains_on(tmp_path):
    (tmp_path / "long.py").write_text(LONG)
    process = subprocess.Popen([sys.executable, tmp_path / "long.py", tmp_path / "runs"])
    until = time.monotonic() + SECONDS
    while not any(path.stat().st_size for path in tmp_path.glob("runs/*/metrics.jsonl")):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.wait()
    (run,) = RunStore(tmp_path / "runs").runs()
    while run.status["state"] == "running" and time.monotonic() < until:
        time.sleep(0.05)
    assert run.status["state"] == "stopped"
    assert run.load_checkpoint()[0][1]["epoch"] == len(run.epochs()) > 0


def test_interrupted_twice_it_ends_at_once_and_the_saved_part_can_be_resumed(tmp_path):
    status, _, err = interrupt(tmp_path, signal.SIGINT, signal.SIGTERM)  # of two alike one might be lost
    assert status != 0
    assert "KeyboardInterrupt" in err
    (run,) = RunStore(tmp_path / "runs").runs()
    for one in checkpoints(run.folder / "checkpoints"):
        one.read()
    asked = count(1)
    outcome = execute(run.config, RunStore(tmp_path / "runs"), DATA, lambda: next(asked) > 3)
    assert outcome.state == "stopped", outcome.reason
    assert [row["epoch"] for row in run.epochs()] == [*range(1, len(run.epochs()) + 1)]


def test_a_worker_killed_by_the_system_is_retried_once_then_reported_and_jobs_change_no_result(
    store, tmp_path, monkeypatch
):
    monkeypatch.setattr(processes, "_execute_in_worker", deadly)
    configs = [small_run(seed) for seed in (1, 0, 2)]
    ended = ProcessEngine().execute_all(configs, store, DATA, 2, StopSwitch())
    outcomes = {outcome.run: outcome for outcome in ended}
    again, dead, other = (outcomes[config.name] for config in configs)
    assert dead.state == store.run(configs[1]).status["state"] == "failed"
    assert dead.reason == "its process was killed by signal 9 (2 attempts), perhaps because memory ran out"
    assert (again.state, other.state) == ("done", "done")
    alone = RunStore(tmp_path / "alone")
    for config in (configs[0], configs[2]):
        execute(config, alone, DATA)
        assert store.run(config).contents() == alone.run(config).contents()


def test_a_quota_on_files_is_named_with_the_file_and_the_run_resumes_without_it(store, tmp_path):
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        outcome = execute(small_run(), store, DATA)
        os.write(writes, f"{outcome.state}: {outcome.reason}".encode())

    reads, writes = os.pipe()
    assert in_a_process(limited) == 0
    said = os.read(reads, 10_000).decode()
    assert said.startswith("failed: [Errno 27] File too large: ")
    assert str(store.root) in said
    assert execute(small_run(), store, DATA).state == "done"


@pytest.fixture
def locked_folder():
    """A folder that a process without rights, which the tests become if they are root's, cannot write to."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def without_rights(work) -> None:
    """Do `work` in a process that may write nothing here."""

    def drop() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)
        work()

    assert in_a_process(drop) == 0


def test_a_folder_without_permission_is_reported_before_any_work(locked_folder):
    locked_folder.chmod(0o555)

    def work() -> None:
        with pytest.raises(PermissionError, match="cannot be written"):
            check_writable(locked_folder / "runs")
        with pytest.raises(PermissionError, match=str(locked_folder)):
            RunStore(locked_folder / "runs").create()

    without_rights(work)
    locked_folder.chmod(0o755)


def test_a_run_whose_folder_turned_read_only_is_never_reported_as_saved(locked_folder):
    store = RunStore(locked_folder / "runs")
    store.create()
    polls = count(1)
    execute(small_run(), store, DATA, lambda: next(polls) > 5)
    run = store.run(small_run())
    (store.root / "locks").chmod(0o777)
    for path in (store.root / "locks").iterdir():
        path.chmod(0o666)
    for path in (run.folder, *run.folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = run.contents()

    def work() -> None:
        outcome = execute(small_run(), store, DATA)
        assert outcome.state == "failed"
        assert "Permission denied" in outcome.reason
        assert str(run.folder) in outcome.reason

    without_rights(work)
    assert run.status["state"] == "stopped"
    assert run.contents() == before
    for path in (run.folder, *run.folder.rglob("*")):
        path.chmod(0o755)


def test_clocks_time_zones_long_paths_and_other_scripts_change_nothing(store, tmp_path, monkeypatch):
    execute(small_run(), store, DATA)
    place = tmp_path / "実験 №7 «ёлка» 🙂"
    while len(str(place)) < 3000:
        place /= "much longer than anybody would type it, and with spaces " * 3
    elsewhere, real, shifts = RunStore(place / "runs"), time.time, iter(range(0, -(10**9), -(10**6)))
    elsewhere.create()
    monkeypatch.setattr(time, "time", lambda: real() + next(shifts))
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        assert execute(small_run(), elsewhere, DATA).state == "done"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert elsewhere.run(small_run()).contents() == store.run(small_run()).contents()
    assert [run.name for run in elsewhere.runs()] == [small_run().name]
