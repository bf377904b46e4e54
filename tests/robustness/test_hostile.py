"""Hostile run stores: damaged and lying files are named in one line, links out of the store not followed."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from helpers.limits import refused
from helpers.runs import edit, small_run

from analysis import frames
from analysis.ablate import ablate
from analysis.bench import bench
from analysis.condense import condense as condense_command
from analysis.cost import cost
from analysis.engines.single_run import execute
from analysis.networks import load_run
from analysis.report import report
from analysis.reporting import StudyReport
from condense_core.files import LeftOut, write_json
from condense_core.store import RunStore, check_run

pytestmark = pytest.mark.usefixtures("bounded")


@pytest.fixture
def store(trained, tmp_path) -> RunStore:
    shutil.copytree(trained.root, tmp_path / "runs")
    return RunStore(tmp_path / "runs")


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "..", ".hidden", "a/b", "a\\b", "", "\x1b[2J", "\u202ex", 3]
)
def test_a_study_cannot_name_runs_elsewhere(store, name):
    record = store.read_study("one")
    record["variants"][0]["runs"] = [name]
    write_json(store.root / "studies" / "one.json", record)
    path = store.root / "studies" / "one.json"
    refused(lambda _: store.read_study("one"), path, "must be (a plain file name|text)")


def test_a_study_is_neither_read_nor_written_elsewhere(store, tmp_path):
    for name in ("../../x", "/tmp/x", "..", "a/b"):
        with pytest.raises(ValueError, match="must be a plain file name"):
            store.read_study(name)
        with pytest.raises(ValueError, match="must be a plain file name"):
            store.write_study(name, {})
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_tensors_are_not_read_elsewhere(store, run, tmp_path):
    shutil.copy(run.folder / "stages" / "end.safetensors", tmp_path / "outside.safetensors")
    for name in ("../../../outside.safetensors", str(tmp_path / "outside.safetensors")):
        edit(run.folder / "stages" / "end.json", tensors=name)
        refused(lambda _: run.stages(), run.folder / "stages" / "end.json", "must be a plain file name")
    for one in run.checkpoints():
        one.path.rename(tmp_path / one.path.name)
        one.path.symlink_to(tmp_path / one.path.name)
    with run.hold() as writer:
        assert writer.load_checkpoint() is None
    for note in run.notes():
        assert "a symbolic link leads out of" in note["text"]
        assert note["text"].endswith("none is undamaged: restarted at the first step")


LINKS = ("config.json", "status.json", "result.json", "metrics.jsonl", "timing.jsonl", "weights.safetensors")
LINKS += ("importance.jsonl",)
LINKS += ("stages", "checkpoints", "stages/end.json", "stages/end.safetensors")
LINKS += ("../locks", "../locks/{name}.lock")


@pytest.mark.parametrize("name", LINKS)
def test_a_link_out_of_a_run_is_not_followed_and_nothing_is_trained_through_it(store, run, tmp_path, name):
    outside, inside = tmp_path / "outside", run.folder / name.format(name=run.name)
    inside.rename(outside)
    inside.symlink_to(outside)
    before = {path: path.read_bytes() for path in [outside, *outside.rglob("*")] if path.is_file()}
    if "locks" not in name:
        with pytest.raises(ValueError, match="a symbolic link leads out of"):
            check_run(run)
    else:
        edit(run.folder / "status.json", state="stopped")  # one that is done needs no lock
    with pytest.raises(ValueError, match="a symbolic link leads out of"):
        execute(small_run(), store, tmp_path)
    assert {path: path.read_bytes() for path in [outside, *outside.rglob("*")] if path.is_file()} == before


def test_a_run_that_is_a_link_out_of_the_store_is_not_followed(store, run, tmp_path):
    run.folder.rename(tmp_path / "outside")
    run.folder.symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="a symbolic link leads out of"):
        store.named(run.name)
    with pytest.raises(ValueError, match="a symbolic link leads out of"):
        execute(small_run(), store, tmp_path)
    run.folder.unlink()
    run.folder.symlink_to(run.name)  # to itself
    with pytest.raises(ValueError, match="a symbolic link leads out of"):
        store.named(run.name)


def test_links_within_a_run_are_followed(run):
    (run.folder / "result.json").rename(run.folder / "kept.json")
    (run.folder / "result.json").symlink_to("kept.json")
    check_run(run)
    assert run.result["test_images"] == 600


HUGE = 1 << 40

DAMAGE = {
    "config.json": ["{", "[]", "{}", '{"config": {}}', "[" * 100_000, '{"a": NaN}', "\xff"],
    "status.json": ["", '{"state": "evil"}', '{"state": 1}']
    + [f'{{"state": "done", "time": {time}}}' for time in ("4e38", "1e999")],
    "result.json": ['{"weights_sha256": 1}', '{"test_error_percent": "low"}', '{"a": "\\ud800"}', HUGE],
    "metrics.jsonl": ["", "{}\n", "[]\n", '{"epoch": 1}\n', "nonsense\n"],
    "importance.jsonl": ["{}\n", "[]\n", '{"epoch": 1, "layers": {}, "data": ""}\n', HUGE],
    "timing.jsonl": ['{"epoch": 1, "seconds": "long"}\n', '{"epoch": true, "seconds": 1}\n'],
    "stages/end.json": ["{}", '{"stage": "end"}', "null"],
    "stages/stage-1.safetensors": ["", "x" * 100, HUGE],
}


@pytest.mark.parametrize(("name", "content"), [(name, c) for name, cases in DAMAGE.items() for c in cases])
def test_a_damaged_file_of_a_run_is_named_and_the_other_runs_are_still_listed(store, run, name, content):
    path = run.folder / name
    if content == HUGE:
        os.truncate(path, HUGE)
    else:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises((ValueError, OSError)) as error:
        check_run(run)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    shown = StudyReport(store, "one")
    with pytest.warns(LeftOut, match=re.escape(str(run.folder))):
        names = list(shown.runs.run)
    assert names == ["sound"]
    assert list(shown.damaged) == [run.name]


@pytest.mark.parametrize("name", ["config.json", "result.json", "stages/end.json"])
def test_every_command_line_names_a_damaged_file_in_one_line(store, run, call, without_figures, name):
    (run.folder / name).write_text('{"torn": ')
    path = Path("runs") / run.name / name
    for command in (cost, condense_command, bench) if name != "stages/end.json" else ():
        status, out, err = call(command, run.name, "--runs", "runs")
        assert (status, out) == (2, "")
        assert f"{path}: is not JSON (" in err
        assert err.count("\n") == 1
    status, out, err = call(report, "one", "--out", "page.html", "--runs", "runs")
    assert status == 0
    assert f"report: left out: {path}: is not JSON" in err
    assert f"{run.name} ({path}: is not JSON" in Path("page.html").read_text()


def test_a_study_with_a_damaged_run_trains_nothing(call, tmp_path):
    tiny = ["--stages", "1-1-1", "--growth", "exponential", "--connectivity", "full", "--sizes", ""]
    tiny += ["--seeds", "1", "--execution", "reference"]
    status, out, _ = call(ablate, *tiny, "--dry-run", "--json")
    name = json.loads(out)["runs"][0]["run"]
    RunStore(tmp_path / "runs").create()
    (tmp_path / "runs" / name).mkdir()
    (tmp_path / "runs" / name / "config.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    for more in ([], ["--dry-run"]):
        status, out, err = call(ablate, *tiny, *more)
        assert (status, out) == (2, "")
        assert f"{name}/config.json: is not JSON" in err
        assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_of_another_network_are_refused(run):
    record = json.loads((run.folder / "config.json").read_text())
    record["config"]["model"]["growth"] = [8, 16, 32]
    write_json(run.folder / "config.json", record)
    message = "its weights are of another network|the network that it describes"
    refused(lambda _: load_run(run), run.folder, message)


def test_a_damaged_benchmark_takes_no_report_away(store):
    (store.root / "benchmarks" / "0.json").write_text('{"times": 1}')
    with pytest.warns(LeftOut, match=r"benchmarks/0\.json: times 1: must be a list"):
        assert len(frames.times(store)) == 1
