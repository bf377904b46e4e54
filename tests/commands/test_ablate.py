"""`python -m analysis.ablate` and `python -m analysis.report` as a user meets them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers.faults import Files, full
from helpers.runs import EXECUTION
from PIL import Image

from analysis.ablate import ablate
from analysis.cli import main
from analysis.engines import single_run
from analysis.engines.processes import ProcessEngine
from analysis.report import report
from analysis.reporting import StudyReport, write_page
from condense_core.store import RunStore, provenance

TINY = ["--stages", "1-1-1", "--growth", "exponential", "--connectivity", "full", "--sizes", ""]
TINY += ["--seeds", "1", "--epochs", "2", "--train-images", "128", "--jobs", "1"]
TINY += ["--no-dense-equal"]
TINY += ["--execution", EXECUTION]


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Call a command line in an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, command=ablate):
        monkeypatch.setattr(sys, "argv", [command.name, *arguments])
        with pytest.raises(SystemExit) as ended:
            main(command)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which the tiny study was run, with the answer in JSON."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = CliRunner().invoke(ablate, [*TINY, "--json"], standalone_mode=False)
    assert done.return_value == 0
    return folder, json.loads(done.stdout), done.stderr


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_help_answers_without_torch():
    code = (
        "import sys; from analysis.ablate import ablate; ablate.main(['--help'], standalone_mode=False);"
        "assert not {'torch', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--condense-factor" in done.stdout


def test_a_dry_run_lists_every_run_and_writes_nothing(call, tmp_path):
    status, out, _ = call(*TINY, "--dry-run", "--json")
    rows = json.loads(out)["runs"]
    assert status == 0
    assert [row["variant"].partition("-")[0] for row in rows] == ["learned", "random", "sequential", "none"]
    assert all(row["state"] == "new" and row["macs"] > 0 and row["estimated_seconds"] > 0 for row in rows)
    status, out, _ = call(*TINY, "--dry-run")
    assert rows[0]["run"] in out
    assert "Nothing was written" in out
    assert not list(tmp_path.iterdir())


@pytest.fixture
def no_report(monkeypatch):
    """No report is written, which takes seconds and is tested elsewhere."""
    monkeypatch.setattr("analysis.reporting.page.write_report", lambda chapter, folder: folder / chapter.name)


def test_a_study_is_run_reported_and_then_skipped(call, trained, monkeypatch, no_report):
    folder, answer, progress = trained
    assert answer["states"] == {"done": 4}
    assert [row["n"] for row in answer["summary"]] == [1] * 4
    assert progress.count("done: ") == 4
    assert (folder / answer["report"]).is_file()
    monkeypatch.chdir(folder)
    before = {
        path: path.stat().st_mtime_ns
        for path in files_below(folder / "runs")
        if path.name == "weights.safetensors"
    }
    status, out, _ = call(*TINY, "--sort", "error")
    assert status == 0
    assert "learned-exponential-full-k4" in out
    assert "Report: reports/ablation-digits" in out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    rows = json.loads(call(*TINY, "--dry-run", "--json")[1])["runs"]
    assert {row["state"] for row in rows} == {"done"}


def test_another_study_of_a_name_is_said_and_the_one_before_is_kept(call, trained, tmp_path, no_report):
    shutil.copytree(trained[0] / "runs", tmp_path / "runs")
    status, out, err = call(*TINY, "--grouping", "random", "--no-reference")
    assert (status, out.count("random-exponential-full-k4")) == (0, 1)
    assert "ablation-digits was another study before (grouping learned,random,sequential, now random, " in err
    assert "is kept as ablation-digits.1: python -m analysis.report ablation-digits.1." in err
    assert len(StudyReport(RunStore(tmp_path / "runs"), "ablation-digits.1").runs) == 4


def test_two_studies_share_the_runs_they_have_in_common(call, trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    rows = json.loads(call(*TINY, "--study", "grouping", "--seeds", "2", "--dry-run", "--json")[1])["runs"]
    assert [row["state"] for row in rows] == ["done", "done", "new", "done", "done"] + ["new"] * 5


def test_a_report_is_written_again_from_the_store(call, trained, tmp_path, undrawn):
    store = str(trained[0] / "runs")
    status, out, _ = call("ablation-digits", "--runs", store, "--reports", "again", command=report)
    assert status == 0
    assert (tmp_path / out.strip()).is_file()
    status, _, err = call("ablation-digit", "--runs", store, command=report)
    assert status == 2
    assert err.strip().endswith("(did you mean 'ablation-digits'?)")


def test_settings_come_from_a_toml_file_and_an_option_wins(call, tmp_path):
    (tmp_path / "study.toml").write_text(
        'grouping = ["learned"]\ngrowth-rate = 8\nseeds = 2\nstages = [1, 1]\n'
    )
    status, out, _ = call(
        "study.toml", "--seeds", "1", "--dry-run", "--json", "--study", "grouping", "--sizes", "", *TINY[-3:]
    )
    rows = json.loads(out)["runs"]
    assert status == 0
    assert [row["variant"] for row in rows] == ["learned-exponential-full-k8", "none-exponential-full-k8"]


def picture(path: Path, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (size, size)).save(path)


@pytest.fixture
def bad_folders(tmp_path):
    """Image folders with one fault each."""
    for split in ("train", "test"):
        picture(tmp_path / "one-class" / split / "a" / "0.png")
        for name in "ab":
            picture(tmp_path / "small" / split / name / "0.png", size=3)
            for i in range(4):
                picture(tmp_path / "unreadable" / split / name / f"{i}.png")
    (tmp_path / "unreadable" / "test" / "b" / "2.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    (tmp_path / "empty" / "test").mkdir()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "main.tex").write_text("")
    (tmp_path / "bad.toml").write_text("epoch = 3\n")
    (tmp_path / "worse.toml").write_text("epochs = = 3\n")
    (tmp_path / "type.toml").write_text('epochs = "many"\n')
    (tmp_path / "list.toml").write_text("preset = []\n")
    (tmp_path / "nested.toml").write_text('grouping = [["learned"]]\n')
    (tmp_path / "huge.toml").write_text("epochs = 1" + "0" * 400 + "\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epoch", "3"], "--epochs"),
        (["bad.toml"], "bad.toml: unknown setting 'epoch': did you mean 'epochs'?"),
        (["worse.toml"], "worse.toml: is not TOML"),
        (["type.toml"], "epochs 'many': must be a whole number"),
        (["list.toml"], "preset []: valid: condensenet-50"),
        (["nested.toml"], "grouping ['learned']: "),
        (["huge.toml"], "must be a whole number at least 1"),
        (["missing.toml"], "missing.toml: there is no such TOML file"),
        (["--sizes", "-2"], "sizes -2: must be a whole number at least 1"),
        (["--stages=-4,4,4"], "stages -4: must be a whole number at least 1"),
        (["--condense-factor", "0"], "condense_factor 0: must be a whole number at least 1"),
        (["--groups", "3"], "groups 3: must divide the output channels"),
        (["--epochs", "-1"], "epochs -1: must be a whole number at least 1"),
        (["--epochs", "many"], "'many' is not a valid integer"),
        (["--learning-rate", "nan"], "learning_rate nan: must be a number at least 0"),
        (["--grouping", "lerned"], "did you mean 'learned'"),
        (["--study", "grouping", "--stages", "4,x"], "must be whole numbers, like 4-4-4"),
        (["--stages", "4,,4"], "'4,,4' must be whole numbers, like 4-4-4"),
        (["--grouping", "learned,"], "'learned,' must be names with one comma between them"),
        (["--data", "digit"], "did you mean 'digits'"),
        (["--data", "folder:nowhere"], "there is no folder nowhere"),
        (["--data", "folder:empty"], "at least 2 class folders, has 0"),
        (["--data", "folder:one-class"], "at least 2 class folders, has 1"),
        (["--data", "folder:unreadable", "--validation-fraction", "0"], "unreadable/test/b/2.png"),
        (
            ["--data", "folder:small", "--validation-fraction", "0"],
            "image_size 3: must be at least 4 pixels for 3 blocks",
        ),
        (["--train-images", "5000"], "train_images 5000: at most 1078"),
        (["--validation-fraction", "1"], "validation_fraction 1.0: must be a number at least 0 and below 1"),
        (["--runs", "thesis"], "is not a run store"),
        (["--runs", "bad.toml"], "cannot be written"),
        (["--reports", "bad.toml/x"], "cannot be written"),
        (["--name", "../x"], "must be a plain file name"),
        (["--device", "tpu"], "device 'tpu'"),
        (["--groups-3x3", "4", "--sizes", ""], "match 'cost'"),
        (["--meaningful", "0"], "meaningful 0: must be more than 0 points and at most 100"),
        (["--meaningful", "-1"], "meaningful -1: must be more than 0 points"),
        (["--meaningful", "nan"], "meaningful nan: must be more than 0 points"),
        (["--seeds", "0"], "seeds 0: must be a whole number at least 1"),
        (["--tune", "learning_rate=-1"], "tune learning_rate -1.0: must be a number at least 0"),
        (["--tune", "learning_rate=nan,1"], "tune learning_rate nan: must be a number at least 0"),
        (["--tune", "epochs=few"], "epochs 'few' must be whole numbers with commas between them"),
        (["--jobs", "0"], "x>=1"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2_and_nothing_is_written(
    call, bad_folders, tmp_path, arguments, message
):
    before = files_below(tmp_path)
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert files_below(tmp_path) == before


def test_a_failed_run_is_reported_with_its_reason_and_exit_status_1(call, monkeypatch):
    def fail(self, configs, *_):
        for config in configs:
            yield single_run.Outcome(config.name, "failed", "OSError: disk full")

    monkeypatch.setattr(ProcessEngine, "execute_all", fail)
    status, _, err = call(*TINY)
    assert status == 1
    assert err.count("OSError: disk full") == 4


def test_ctrl_c_stops_cleanly_says_how_to_go_on_and_the_same_command_does(call, tmp_path, no_report):
    settings = [*TINY, "--epochs", "60", "--grouping", "learned"]
    command = [sys.executable, "-m", "analysis.ablate", *settings]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    began = time.monotonic()
    while not list(tmp_path.glob("runs/*/metrics.jsonl")) and time.monotonic() - began < 300:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Run the same command to resume" in err
    assert "Traceback" not in err
    assert not (tmp_path / "reports").exists()
    started = RunStore(tmp_path / "runs").runs()
    assert {run.status["state"] for run in started} <= {"stopped", "done"}
    assert any(run.checkpoints() for run in started)
    status, out, _ = call(*settings)
    assert status == 0
    assert "Report: " in out


def test_force_restarts_runs_of_other_code_and_only_force_does(call, trained, tmp_path, monkeypatch, no_report):
    shutil.copytree(trained[0] / "runs", tmp_path / "runs")
    store = RunStore(tmp_path / "runs")
    left = store.runs()[0]
    with left.hold() as writer:
        writer.set_state("stopped")
    for name in ("result.json", "weights.safetensors"):
        (left.folder / name).unlink()
    now = provenance.environment() | {"code": "0123456789ab"}
    monkeypatch.setattr(provenance, "environment", lambda: now)
    before = left.contents()
    for also in ([], ["--dry-run"]):
        status, _, err = call(*TINY, *also)
        assert status == 2
        assert "0123456789ab now" in err
    assert f"or use --force to restart them; the old runs are kept ({left.name})" in err
    assert left.contents() == before
    monkeypatch.setattr(ProcessEngine, "execute_all", in_this_process)
    status, out, err = call(*TINY, "--force")
    assert status == 0
    assert f"superseded/{left.name}.1" in err
    assert "The runs were not all trained with the same condense_core: 0123456789ab (1 run), " in out
    (finding,) = [text for text in StudyReport(store, "ablation-digits").findings if "not all trained" in text]
    assert finding in out


def in_this_process(self, configs, store, data_dir, jobs, stop, force):
    """`execute_all` without processes, which would not see a patch of this one."""
    return [single_run.execute(config, store, data_dir, force=force) for config in configs]


def test_a_disk_that_is_full_for_the_report_is_reported_in_one_line_and_the_old_report_stays(call, tmp_path):
    page = write_page(tmp_path / "reports" / "index.html", "old")

    @click.command("report")
    def rewrite() -> None:
        write_page(page, "new")

    with Files(page.parent, 2, full(), lasts=True).watched():
        status, _, err = call(command=rewrite)
    assert (status, err) == (1, f"report: [Errno 28] No space left on device: '{page}'\n")
    assert page.read_text() == "old"
    assert list(page.parent.iterdir()) == [page]
