"""A store that commit 40ebbf7 wrote: listed, reported, resumed if it can be, and named by the same hashes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analysis import frames
from analysis.ablate import ablate
from analysis.condense import condense
from analysis.cost import cost
from analysis.engines.single_run import execute
from analysis.explorer import explore
from analysis.networks.lookup import load_run
from analysis.report import report
from analysis.studies import Study, StudyConfig
from condense_core import PRESETS, DataConfig, RunConfig
from condense_core.files import LeftOut
from condense_core.presets import preset_recipe
from condense_core.store import Run, RunStore, check_run
from condense_core.validation import from_dict

HERE = Path(__file__).parent
WRITTEN, DATA = HERE / "written_by_40ebbf7", Path("data")
NAMES = json.loads((HERE / "names_of_40ebbf7.json").read_text())
DONE = ["learned-0", "none-0", "none-1", "sequential-0"]
STATES = {"learned-0": "done", "sequential-0": "done", "none-0": "done", "none-1": "done"}
STATES |= {"learned-1": "stopped", "sequential-1": "failed"}


@pytest.fixture
def older(tmp_path) -> RunStore:
    """A copy of the older store."""
    shutil.copytree(WRITTEN, tmp_path / "runs")
    return RunStore(tmp_path / "runs")


def runs_of_small(store: RunStore) -> dict[str, Run]:
    """The runs of the study 'small' by grouping and seed."""
    names = [name for variant in store.read_study("small")["variants"] for name in variant["runs"]]
    runs = [store.named(name) for name in names]
    return {f"{run.config.model.grouping}-{run.config.seed}": run for run in runs}


def small_study(store: RunStore) -> Study:
    """The study 'small', from the settings in its record."""
    settings = store.read_study("small")["settings"]
    return Study.of(from_dict(StudyConfig, settings), "cpu")


def call(command, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def written_as_toml(store: RunStore) -> Path:
    """A TOML file with the settings of the study 'small'."""
    settings = store.read_study("small")["settings"] | {"split": "fixed"}
    path = store.root.parent / "small.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items() if value is not None]
    path.write_text("\n".join(lines))
    return path


def test_every_run_has_the_name_of_its_configuration(older):
    names = [run.config.name for run in older.runs()]
    assert names == [run.name for run in older.runs()]
    assert len(names) == 7


def test_a_study_gives_the_runs_of_its_record(older):
    now, record = small_study(older).record(), older.read_study("small")
    assert now["settings"].items() >= record["settings"].items()
    assert now | {"settings": record["settings"]} == record


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_keep_their_names(preset):
    model = PRESETS[preset]
    data = DataConfig("imagenet:images" if model.num_classes == 1000 else "cifar10")
    assert RunConfig(model, preset_recipe(preset), data).name == NAMES["presets"][preset]


@pytest.mark.parametrize("study", NAMES["studies"])
def test_named_studies_keep_the_names_of_their_runs(study):
    configs = Study.named(study, device="cpu", seeds=1, split="fixed").run_configs()
    known = NAMES["studies"][study]
    assert [config.name for _, config in configs if config.name in known] == known


def test_its_runs_are_read_whole(older):
    assert {name: run.status["state"] for name, run in runs_of_small(older).items()} == STATES
    for run in older.runs():
        check_run(run)
        run.seconds()
    for name, run in runs_of_small(older).items():
        if name in DONE:
            assert run.weights()
    (_, numbers), faults = runs_of_small(older)["learned-1"].load_checkpoint()
    assert not faults
    assert numbers["step"] == 2
    (aside,) = (older.root / "superseded").iterdir()
    assert Run(aside).status["state"] == "stopped"
    (benchmark,) = older.benchmarks()
    assert benchmark["times"][0]["execution"] == "torch"


def test_it_is_listed(older):
    listed = frames.study_runs(older, "small")
    assert dict(zip(listed.grouping + "-" + listed.seed.astype(str), listed.state, strict=True)) == STATES
    assert set(frames.runs(older).state) == {"done", "stopped", "failed", "diverged"}
    assert frames.study_runs(older, "small.1").state.tolist() == ["diverged"]
    (diverged,) = older.read_study("small.1")["variants"][0]["runs"]
    assert older.named(diverged).status["reason"] == "the loss is not finite in epoch 1"


def test_its_reports_are_written(older, tmp_path):
    for study in ("small", "small.1"):
        result = call(report, study, "--runs", older.root, "--reports", tmp_path / "reports")
        assert result.exit_code == 0, result.output
    page = (tmp_path / "reports" / "small" / "index.html").read_text()
    assert all(run.name in page for run in runs_of_small(older).values())


def test_finished_runs_are_skipped_and_an_unfinished_one_needs_force(older):
    runs = runs_of_small(older)
    before = {name: run.contents() for name, run in runs.items()}
    for name in DONE:
        assert execute(runs[name].config, older, DATA).state == "done"
    stopped = runs["learned-1"]
    outcome = execute(stopped.config, older, DATA)
    assert outcome.state == "failed"
    assert f"run {stopped.name}: " in outcome.reason
    assert "condense_core: 809f185206d9 then" in outcome.reason
    assert "--force" in outcome.reason
    assert {name: run.contents() for name, run in runs.items()} == before
    assert execute(stopped.config, older, DATA, force=True).state == "done"
    assert Run(older.root / "superseded" / f"{stopped.name}.1").contents() == before["learned-1"]


def test_the_command_refuses_what_it_cannot_resume_and_names_the_option_that_restarts_it(older):
    options = [written_as_toml(older), "--device", "cpu", "--runs", older.root]
    result = call(ablate, *options, "--dry-run")
    assert result.exit_code != 0
    assert "condense_core: 809f185206d9 then" in result.output
    assert "--force" in result.output
    result = call(ablate, *options, "--dry-run", "--force", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["runs"]
    states = [row["state"] for row in rows if row["role"] != "dense-equal"]  # added later
    assert sorted(states) == sorted(STATES.values())


def files_of(store: RunStore) -> dict[str, tuple[int, bytes | None]]:
    """Every file and folder of a store with its time of change and its content."""
    found = [store.root, *sorted(store.root.rglob("*"))]
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in found
    }


def read_all(store: RunStore, name: str, folder: Path) -> None:
    """Let every command that only reads read a store, and a run of it."""
    options = ["--runs", store.root]
    call(cost, name, *options)
    call(condense, name, "--to", folder / "small.safetensors", *options)
    call(report, "small", *options, "--reports", folder / "reports")
    call(ablate, written_as_toml(store), "--device", "cpu", *options, "--dry-run", "--force")
    explore(store.root).close()
    frames.study_runs(store, "small")
    frames.runs(store)


@pytest.mark.filterwarnings("ignore::condense_core.files.LeftOut")
@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("name", ["learned-0", "learned-1"])
def test_commands_that_only_read_write_nothing_to_a_store(older, tmp_path, name, damaged):
    run = runs_of_small(older)["learned-1"]
    if damaged:
        newest = run.checkpoints()[0].path
        newest.with_name(newest.name.replace("00000002", "00000003")).write_bytes(newest.read_bytes()[:-1])
    before = files_of(older)
    read_all(older, runs_of_small(older)[name].name, tmp_path)
    assert files_of(older) == before
    assert (tmp_path / "small.safetensors").is_file()


def test_a_damaged_checkpoint_is_warned_of_by_readers_and_noted_by_the_writer(older):
    run = runs_of_small(older)["learned-1"]
    newest = run.checkpoints()[0].path
    newest.with_name(newest.name.replace("00000002", "00000003")).write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(LeftOut, match="left out: .*step-00000003"):
        load_run(run)
    assert run.notes() == []
    with run.hold() as writer:
        assert writer.load_checkpoint()[1]["step"] == 2
    (note,) = run.notes()
    assert note["text"].endswith("an older one is used")
