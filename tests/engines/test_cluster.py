"""A study on a Ray cluster of two nodes, here on one machine."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.runs import small_run

from analysis.ablate import ablate
from analysis.cli import main
from analysis.engines import Outcome, connect, ray_turns
from analysis.engines.ray_cluster import RayEngine
from analysis.engines.ray_turns import Turn
from analysis.engines.single_run import execute
from analysis.engines.stopping import StopSwitch
from analysis.studies import Study
from condense_core.store import RunStore
from condense_core.validation import to_dict

TINY = ["--study", "grouping", "--grouping", "learned", "--sizes", "", "--stages", "1-1-1", "--seeds", "1"]
TINY += ["--epochs", "2", "--train-images", "128", "--execution", "reference", "--engine", "ray"]
TINY += ["--no-dense-equal"]
CONFIGS = [small_run(seed) for seed in range(3)]
DATA = Path("data")
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def machines():
    """Two nodes with a CPU each."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray-") as folder:
        # If Jupyter is installed, jsonschema compiles a grammar for seconds in each of Ray's processes.
        Path(folder, "rfc3987_syntax.py").write_text("raise ImportError")
        patch.setitem(sys.modules, "rfc3987_syntax", None)
        patch.setenv("PYTHONPATH", folder, prepend=os.pathsep)
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_num_workers_soft_limit", "3")  # keep those that have loaded torch
        pytest.importorskip("ray", reason="ray is not installed")
        from ray.cluster_utils import Cluster

        head = {"include_dashboard": False, "include_log_monitor": False}
        machines = Cluster(initialize_head=True, head_node_args=NODE | head)
        try:
            machines.add_node(**NODE)
            yield machines
        finally:
            machines.shutdown()


@pytest.fixture(scope="module")
def cluster(machines):
    """This process as a driver of the cluster."""
    with connect("ray", machines.address) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """The files of the runs, trained on this machine without a cluster."""
    store = RunStore(tmp_path_factory.mktemp("here") / "runs")
    store.create()
    assert [execute(config, store, DATA).state for config in CONFIGS] == ["done"] * 3
    return all_contents(store)


def all_contents(store: RunStore) -> dict[str, dict[str, bytes]]:
    return {run.name: run.contents() for run in store.runs()}


def when_both_nodes_train(store: RunStore, act) -> threading.Thread:
    """Do something as soon as two runs have trained an epoch, while the test waits for them."""

    def watch() -> None:
        while len(list(store.root.glob("*/metrics.jsonl"))) < 2:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Call the command line in an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str):
        monkeypatch.setattr(sys, "argv", ["ablate", *arguments])
        with pytest.raises(SystemExit) as ended:
            main(ablate)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_a_stop_reaches_the_nodes_and_the_runs_resume_to_the_same_files(cluster, store, expected):
    stop = StopSwitch()
    when_both_nodes_train(store, stop.set)
    outcomes = list(cluster.execute_all(CONFIGS, store, DATA, None, stop))
    assert {outcome.run for outcome in outcomes} == set(expected)
    assert {"stopped"} <= {outcome.state for outcome in outcomes} <= {"stopped", "done"}
    assert all(run.checkpoints() for run in store.runs() if run.status["state"] == "stopped")
    outcomes = list(cluster.execute_all(CONFIGS, store, DATA, None, StopSwitch()))
    assert [outcome.state for outcome in outcomes] == ["done"] * 3
    assert all_contents(store) == expected


def test_the_command_line_shows_a_study_on_a_cluster_as_any_other(cluster, call):
    status, out, err = call(*TINY, "--json")
    assert (status, json.loads(out)["states"]) == (0, {"done": 2})
    assert err.count("done: ") == 2
    status, out, _ = call(*TINY, "--dry-run")
    assert "All 2 runs are finished: nothing is left to train." in out
    status, out, _ = call(*TINY, "--epochs", "3", "--dry-run")
    assert "2 of 2 runs are left to train, about " in out
    assert "with 2 at once" in out


def test_a_study_runs_on_a_cluster_from_python(cluster, tmp_path):
    settings = {
        "grouping": ("learned",),
        "reference": False,
        "dense_equal": False,
        "sizes": (),
        "stages": (1, 1, 1),
    }
    settings |= {"seeds": 1, "epochs": 2, "train_images": 128, "execution": "reference"}
    study = Study.named("grouping", "cpu", **settings)
    there = study.run(tmp_path / "there", engine="ray")
    here = study.run(tmp_path / "here")
    assert there["state"].tolist() == ["done"]
    assert there["test_loss"].tolist() == here["test_loss"].tolist()
    with pytest.raises(ValueError, match="engine 'dask': valid: processes, ray"):
        study.run(tmp_path / "there", engine="dask")


def test_runs_that_take_masks_start_on_a_cluster_after_the_runs_that_learned_them(cluster, tmp_path):
    settings = {"stages": (1, 1, 1), "seeds": 2, "epochs": 2, "train_images": 128, "execution": "reference"}
    study = Study.named("masks", "cpu", **settings)
    there, here = study.run(tmp_path / "there", engine="ray"), study.run(tmp_path / "here")
    assert (there["state"] == "done").all()
    assert there["test_loss"].tolist() == here["test_loss"].tolist()


def test_jobs_limits_the_runs_at_once(cluster, store, monkeypatch, tmp_path):
    def noted(config, *others):
        with (tmp_path / "notes").open("a", buffering=1) as file:
            file.write("begins\n")
            time.sleep(0.2)
            file.write("ends\n")
        return Outcome(config.name, "done")

    monkeypatch.setattr(ray_turns, "_execute_on_node", noted)
    list(cluster.execute_all(CONFIGS, store, DATA, 1, StopSwitch()))
    assert (tmp_path / "notes").read_text() == "begins\nends\n" * 3


def test_a_node_that_does_not_see_the_run_store_says_so_and_trains_nothing(cluster, store, monkeypatch):
    execute_on_node = ray_turns._execute_on_node

    def elsewhere(config, store, *others):
        return execute_on_node(config, RunStore(store.root / "elsewhere"), *others)

    monkeypatch.setattr(ray_turns, "_execute_on_node", elsewhere)
    (outcome,) = cluster.execute_all(CONFIGS[:1], store, DATA, None, StopSwitch())
    assert outcome.state == "failed"
    assert "must be on a file system that all nodes share" in outcome.reason
    assert not (store.root / "elsewhere").exists()


def test_a_run_that_is_held_is_reported_after_a_while_and_trained_once_it_is_released(
    cluster, store, monkeypatch
):
    after_held = Turn.after_held
    monkeypatch.setattr(ray_turns, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(ray_turns, "HELD_SECONDS", 0.0)
    with ExitStack() as holder:
        holder.enter_context(store.run(CONFIGS[0]).hold())
        (outcome,) = cluster.execute_all(CONFIGS[:1], store, DATA, None, StopSwitch())
        assert outcome.state == "held"
        assert f"is being trained by process {os.getpid()}" in outcome.reason
        monkeypatch.setattr(ray_turns, "HELD_SECONDS", 60.0)
        monkeypatch.setattr(Turn, "after_held", lambda turn: (holder.close(), after_held(turn))[1])
        (outcome,) = cluster.execute_all(CONFIGS[:1], store, DATA, None, StopSwitch())
        assert outcome.state == "done"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "rya"], "engine 'rya': did you mean 'ray'?"),
        (["--address", "auto"], "address 'auto': needs engine 'ray'"),
        (["--gpus-per-run", "0.5"], "gpus_per_run 0.5: needs engine 'ray'"),
        (["--engine", "ray", "--gpus-per-run", "0"], "gpus_per_run 0: must be above 0 and at most 1"),
        (["--engine", "ray", "--gpus-per-run", "2"], "gpus_per_run 2: must be above 0 and at most 1"),
        (["--engine", "ray", "--gpus-per-run", "1"], "gpus_per_run 1: needs device 'cuda'"),
        (["--engine", "ray", "--device", "cuda"], "device 'cuda': there is no GPU"),
        (["--engine", "ray", "--threads", "2"], "threads 2: no node of the cluster has as many CPUs"),
        (["--engine", "ray", "--address", "127.0.0.1:1"], "address '127.0.0.1:1': cannot be reached"),
        (["--engine", "ray", "--address", "here"], "address 'here': Invalid address format"),
    ],
)
def test_what_a_cluster_cannot_do_is_one_line_before_any_work(cluster, call, tmp_path, arguments, message):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_ray_it_says_what_to_install(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    status, _, err = call("--engine", "ray")
    assert status == 2
    assert "pip install 'condense[cluster]'" in err


def test_runs_share_gpus_by_fractions_and_wait_for_none_that_is_nowhere():
    run = dataclasses.replace(CONFIGS[0], device="cuda")
    nodes = ({"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0})
    assert RayEngine(nodes).slots(run) == 1
    assert RayEngine(nodes, 0.25).slots(run) == 4
    with pytest.raises(ValueError, match="gpus_per_run 1: no node with 1 CPUs has as much of a GPU"):
        RayEngine(nodes[:1]).check(run)


def test_a_run_that_came_further_before_it_died_again_is_tried_again():
    once = Turn(CONFIGS[0]).after_death(epochs=0)
    assert (once.deaths, once.after_death(epochs=0).deaths) == (1, 2)
    further = once.after_death(epochs=3)
    assert (further.deaths, further.after_death(epochs=3).deaths) == (1, 2)


DRIVER = """
import json, sys
from pathlib import Path
from analysis.engines import connect
from analysis.engines.stopping import StopSwitch
from condense_core.config import RunConfig
from condense_core.store import RunStore
from condense_core.validation import from_dict
address, root, *configs = sys.argv[1:]
with connect("ray", address) as cluster:
    configs = [from_dict(RunConfig, json.loads(config)) for config in configs]
    list(cluster.execute_all(configs, RunStore(Path(root)), Path("data"), 1, StopSwitch()))
"""


def test_a_driver_that_is_killed_and_started_again_trains_nothing_twice(
    cluster, machines, store, expected, monkeypatch
):
    monkeypatch.setattr(ray_turns, "RETRY_SECONDS", 0.5)
    configs = [json.dumps(to_dict(config)) for config in CONFIGS]
    with store.run(CONFIGS[-1]).hold():  # however late this process sees the first result
        driver = subprocess.Popen([sys.executable, "-c", DRIVER, machines.address, str(store.root), *configs])
        while not (done := list(store.root.glob("*/result.json"))):
            assert driver.poll() is None
            time.sleep(0.02)
        driver.kill()
        driver.wait()
    assert len(done) < len(CONFIGS)
    before = {path: path.stat().st_mtime_ns for path in done}
    outcomes = list(cluster.execute_all(CONFIGS, store, DATA, None, StopSwitch()))
    assert [outcome.state for outcome in outcomes] == ["done"] * 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert all_contents(store) == expected


def test_runs_resume_on_another_node_when_one_dies_and_end_with_the_same_files(
    cluster, machines, store, expected
):
    (node,) = machines.worker_nodes
    killer = when_both_nodes_train(store, lambda: machines.remove_node(node, allow_graceful=False))
    outcomes = list(cluster.execute_all(CONFIGS, store, DATA, None, StopSwitch()))
    killer.join()
    assert [outcome.state for outcome in outcomes] == ["done"] * 3
    assert all_contents(store) == expected


def test_a_worker_that_is_killed_twice_is_reported_and_the_others_go_on(cluster, store, monkeypatch, tmp_path):
    def deadly(config, *others):
        if config.seed == 0:
            with (tmp_path / "deaths").open("a") as file:
                file.write("killed\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return Outcome(config.name, "done")

    monkeypatch.setattr(ray_turns, "_execute_on_node", deadly)
    outcomes = {
        outcome.run: outcome for outcome in cluster.execute_all(CONFIGS[:2], store, DATA, None, StopSwitch())
    }
    dead, other = (outcomes[config.name] for config in CONFIGS[:2])
    assert dead.state == "failed"
    assert dead.reason == (
        "WorkerCrashedError: The worker died unexpectedly while executing this task (2 attempts)"
    )
    assert store.run(CONFIGS[0]).status["reason"] == dead.reason
    assert (tmp_path / "deaths").read_text() == "killed\n" * 2
    assert other.state == "done"
