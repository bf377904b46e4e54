"""Processes killed, disks full, power cut, files damaged: nothing is lost, and the result is the same."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from helpers.faults import Files, disks_after_power_cuts, full, kill, write_disk
from helpers.processes import in_a_process
from helpers.runs import row, small_run
from hypothesis import given, strategies as st

from analysis.engines import single_run
from analysis.engines.single_run import execute
from condense_core import RecipeConfig
from condense_core.store import Run, RunStore, RunWriter, provenance

DATA = Path("data")


@pytest.fixture
def store(store, monkeypatch) -> RunStore:
    """Runs are saved after every epoch."""
    monkeypatch.setattr(single_run, "CHECKPOINT_SECONDS", 0.0)
    return store


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Run:
    """The run that all others must end as. No test may write to it."""
    store = RunStore(tmp_path_factory.mktemp("undisturbed") / "runs")
    store.create()
    assert execute(small_run(), store, DATA).state == "done"
    return store.run(small_run())


def stopping_after(polls: int):
    """A switch that is off for some steps."""
    asked = count(1)
    return lambda: next(asked) > polls


def killing_at(poll: int):
    """A switch whose process is killed when it is asked once more than `poll` times."""
    asked = count(1)
    return lambda: next(asked) > poll and kill()


def stopped_run(store: RunStore, polls: int) -> Run:
    """A run that was stopped after some steps."""
    assert execute(small_run(), store, DATA, stopping_after(polls)).state == "stopped"
    return store.run(small_run())


def saved(step: int) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """A checkpoint that a test can tell from others."""
    numbers = {"step": step, "epoch": 0, "stage": 0, "training_macs": 0}
    return {"weight": torch.full((300,), float(step))}, numbers


def test_killed_at_one_step_after_another_it_ends_as_the_undisturbed_run_byte_for_byte(store, undisturbed):
    config, kills = small_run(), 0
    for poll in (1, 4, 2, 7, 3, 1, 5, 9, 4):
        kills += (
            in_a_process(lambda poll=poll: execute(config, store, DATA, killing_at(poll))) == signal.SIGKILL
        )
    assert kills >= 4
    assert execute(config, store, DATA).state == "done"
    assert store.run(config).contents() == undisturbed.contents()


def test_killed_at_any_write_flush_or_rename_of_a_save_the_old_or_the_new_checkpoint_loads(store, tmp_path):
    run = store.run(small_run())
    with run.hold() as writer:
        writer.start(small_run(), "fingerprint")
        for step in (1, 2):
            writer.append_epoch(row(step), 0.1)
            writer.save_checkpoint(*saved(step))
    for at in count(1):
        copy = Run(tmp_path / f"killed-at-{at}")
        shutil.copytree(run.folder, copy.folder)

        def save(at=at, copy=copy) -> None:
            with copy.hold() as writer, Files(copy.folder, at).watched():
                writer.append_epoch(row(3), 0.1)
                writer.save_checkpoint(*saved(3))

        killed = in_a_process(save)
        (tensors, numbers), _ = copy.load_checkpoint()
        assert numbers["step"] in ((2, 3) if killed else (3,)), at
        assert tensors["weight"].unique().tolist() == [numbers["step"]]
        assert [one["epoch"] for one in copy.epochs()] in ([1, 2], [1, 2, 3])
        if not killed:
            break
    assert at > 10


def whole_run(folder: Path, files: Files) -> RunStore:
    """A new store with a run that is saved after every epoch, watched from the first step on."""
    store = RunStore(folder / "runs")
    with files.watched():
        store.create()
        assert execute(small_run(), store, DATA).state == "done"
    return store


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> tuple[Path, list]:
    """A store's root, and all that is done to it until a run in it is done."""
    folder = tmp_path_factory.mktemp("recorded")
    files, seconds = Files(folder), single_run.CHECKPOINT_SECONDS
    single_run.CHECKPOINT_SECONDS = 0.0
    whole_run(folder, files)
    single_run.CHECKPOINT_SECONDS = seconds
    return folder / "runs", files.steps


@pytest.mark.parametrize("back", [0, 1, 2, 3, 5, 8, 13, 21, 34])
def test_killed_at_one_of_the_last_writes_of_a_run_it_is_finished_the_same(store, undisturbed, recorded, back):
    _, steps = recorded
    files = Files(store.root.parent, len(steps) - back)
    shutil.rmtree(store.root)
    assert in_a_process(lambda: whole_run(store.root.parent, files)) == signal.SIGKILL
    assert execute(small_run(), store, DATA).state == "done"
    assert store.run(small_run()).contents() == undisturbed.contents()


def test_after_a_power_cut_at_any_moment_a_checkpoint_loads_whose_epochs_and_stages_are_there(
    recorded, tmp_path
):
    (root, steps), name = recorded, small_run().name
    states = loaded = safe = 0
    for number, disks in disks_after_power_cuts(steps, root):
        for disk in disks:
            target = tmp_path / f"cut-{states}"
            write_disk(disk, root, target)
            run, states = Run(target / name), states + 1
            if run.folder.is_dir():
                assert run.started or not any(run.folder.glob("checkpoints/*")), number
            if run.started and (state := run.load_checkpoint()[0]):
                _, numbers = state
                assert [row["epoch"] for row in run.epochs()][: numbers["epoch"]] == [
                    *range(1, numbers["epoch"] + 1)
                ]
                there = [record["stage"] for record in run.stages() if record["stage"] is not None]
                assert set(range(numbers["stage"] + 1)) <= set(there)
                assert numbers["step"] >= safe or run.is_trained
                loaded += 1
                if disk is disks[0]:  # all that is certain
                    safe = numbers["step"]
            elif run.status["state"] != "done":
                assert safe == 0 or run.is_trained, f"neither an old nor a new checkpoint after step {number}"
            shutil.rmtree(target)
    assert loaded > 100


@pytest.mark.parametrize("share", [0.3, 0.55, 0.8, 0.97])
def test_after_a_power_cut_a_run_ends_as_the_undisturbed_one(recorded, undisturbed, tmp_path, share):
    (root, steps), config = recorded, small_run()
    _, disks = list(disks_after_power_cuts(steps[: int(share * len(steps))], root))[-1]
    write_disk(disks[0], root, tmp_path / "runs")
    store = RunStore(tmp_path / "runs")
    assert execute(config, store, DATA).state == "done"
    assert store.run(config).contents() == undisturbed.contents()


def failed_save(run: Run, files: Files) -> str | None:
    """The error of a save that fails."""
    try:
        with run.hold() as writer, files.watched():
            writer.save_checkpoint(*saved(2))
    except OSError as error:
        return str(error)
    return None


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=errno.errorcode.get)
def test_with_a_full_disk_from_any_write_on_what_was_there_stays_and_the_file_is_named(store, tmp_path, fault):
    run = store.run(small_run())
    with run.hold() as writer:
        writer.start(small_run(), "fingerprint")
        writer.save_checkpoint(*saved(1))
    for at in count(1):
        copy = Run(tmp_path / f"full-at-{at}")
        shutil.copytree(run.folder, copy.folder)
        message = failed_save(copy, Files(copy.folder, at, full(fault), lasts=True))
        if message is None:
            break
        assert str(copy.folder) in message
        assert os.strerror(fault) in message
        with copy.hold() as writer:
            _, numbers = writer.load_checkpoint()
            assert numbers["step"] in (1, 2)
            writer.save_checkpoint(*saved(3))
            assert writer.load_checkpoint()[1]["step"] == 3
    assert at > 5


@pytest.mark.parametrize("at", [1, 4, 9, 20, 45, 80])
def test_a_run_that_found_the_disk_full_says_so_and_goes_on_when_there_is_room(store, undisturbed, at):
    config = small_run()
    with Files(store.root, at, full(), lasts=True).watched():
        outcome = execute(config, store, DATA)
    assert outcome.state == "failed"
    assert "No space left on device" in outcome.reason
    assert str(store.root) in outcome.reason
    assert execute(config, store, DATA).state == "done"
    assert store.run(config).contents() == undisturbed.contents()


def damaged_copies(run: Run, tmp_path: Path, damage) -> None:
    """Damage the newest checkpoint of a copy of a run: it must be named, and the one before it used."""
    folder = tmp_path / f"damaged-{len(list(tmp_path.iterdir()))}"
    shutil.copytree(run.folder, folder)
    copy = Run(folder)
    newest, before = copy.checkpoints()[:2]
    newest.path.write_bytes(damage(newest.path.read_bytes()))
    with copy.hold() as writer:
        _, numbers = writer.load_checkpoint()
    assert numbers["step"] == before.step
    text = copy.notes()[-1]["text"]
    assert str(newest.path) in text
    assert text.endswith("an older one is used")
    shutil.rmtree(folder)


@pytest.fixture
def with_checkpoints(tmp_path) -> Run:
    run = Run(tmp_path / "runs" / "run")
    with run.hold() as writer:
        writer.start(small_run(), "fingerprint")
        for step in (1, 2, 3):
            writer.save_checkpoint(*saved(step))
    assert [one.step for one in run.checkpoints()] == [3, 2]
    return run


def test_a_newest_checkpoint_cut_off_anywhere_is_named_and_the_one_before_is_used(with_checkpoints, tmp_path):
    size = with_checkpoints.checkpoints()[0].path.stat().st_size
    for length in {0, 1, 7, 8, 9, 64, 512, 4096, *range(0, size, 97), size - 1} & set(range(size)):
        damaged_copies(with_checkpoints, tmp_path, lambda content, length=length: content[:length])


def test_one_flipped_bit_anywhere_in_the_newest_checkpoint_is_found_by_its_checksum(with_checkpoints, tmp_path):
    content = with_checkpoints.checkpoints()[0].read()

    @given(st.integers(0, len(content) - 1), st.integers(0, 7))
    def flipped(place: int, bit: int) -> None:
        def flip(content: bytes) -> bytes:
            return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]

        damaged_copies(with_checkpoints, tmp_path, flip)

    flipped()


def test_a_run_whose_newest_checkpoint_is_damaged_says_so_and_ends_as_the_undisturbed_one(store, undisturbed):
    run = stopped_run(store, 13)
    newest = run.checkpoints()[0].path
    newest.write_bytes(newest.read_bytes()[:-1])
    outcome = execute(small_run(), store, DATA)
    assert outcome.state == "done"
    assert any(newest.name in note for note in outcome.notes)
    assert run.contents() == undisturbed.contents()


def test_a_torn_last_line_of_the_metrics_is_dropped_and_no_epoch_is_there_twice_or_missing(store, undisturbed):
    run = stopped_run(store, 13)
    whole = run.epochs()
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 5, "ste')
    assert run.epochs() == whole
    with run.hold() as writer:
        writer.append_epoch(row(5), 0.1)  # a torn line is never glued to the next one
    assert run.epochs() == [*whole, row(5)]
    assert execute(small_run(), store, DATA).state == "done"
    assert [row["epoch"] for row in run.epochs()] == [1, 2, 3, 4, 5, 6]
    assert run.contents() == undisturbed.contents()


def test_lost_metrics_take_a_run_back_to_the_checkpoint_that_they_reach(store, undisturbed):
    run = stopped_run(store, 13)
    lines = (run.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.folder / "metrics.jsonl").write_text("".join(lines[:2]))
    outcome = execute(small_run(), store, DATA)
    assert any("builds on 4 epochs, but only 2 are there" in note for note in outcome.notes)
    assert run.contents() == undisturbed.contents()


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_killed_between_stages_the_masks_are_the_same_and_stages_that_are_done_are_not_repeated(
    store, undisturbed, monkeypatch, stage
):
    config, run = small_run(), store.run(small_run())
    write = RunWriter.write_stage

    def killing(self, record, tensors) -> None:
        if record["stage"] == stage:
            kill()
        write(self, record, tensors)

    monkeypatch.setattr(RunWriter, "write_stage", killing)
    assert in_a_process(lambda: execute(config, store, DATA)) == signal.SIGKILL
    assert [record["stage"] for record in run.stages()] == list(range(stage))
    written: list[int | None] = []
    monkeypatch.setattr(
        RunWriter, "write_stage", lambda self, *row: (written.append(row[0]["stage"]), write(self, *row))
    )
    assert execute(config, store, DATA).state == "done"
    assert written == [*range(stage, 4), None]
    assert run.contents() == undisturbed.contents()


@pytest.fixture
def changed(monkeypatch):
    """Change the code or torch that trains."""

    def change(**new: str) -> None:
        now = provenance.environment() | new
        monkeypatch.setattr(provenance, "environment", lambda: now)
        if "code" in new:
            files = provenance.code() | {"grouping.py": "changed"}
            monkeypatch.setattr(provenance, "code", lambda: files)

    return change


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"code": "0123456789ab"}, "0123456789ab now (grouping.py)"),
        ({"torch": "3.0.0"}, "3.0.0 now"),
    ],
)
def test_code_or_torch_changed_under_an_unfinished_run_is_refused_and_force_begins_anew_beside_it(
    store, undisturbed, changed, changes, reported
):
    run = stopped_run(store, 13)
    before = run.contents()
    changed(**changes)
    outcome = execute(small_run(), store, DATA)
    assert outcome.state == "failed"
    assert reported in outcome.reason
    assert "--force" in outcome.reason
    assert run.contents() == before
    outcome = execute(small_run(), store, DATA, force=True)
    assert outcome.state == "done"
    assert any(reported in note for note in outcome.notes)
    assert run.contents() == undisturbed.contents()
    assert Run(store.root / "superseded" / f"{run.name}.1").contents() == before
    assert [one.name for one in store.runs()] == [run.name]


def test_data_changed_under_an_unfinished_run_is_refused(store):
    run = store.run(small_run())
    with run.hold() as writer:
        writer.start(small_run(), "then")
        with pytest.raises(ValueError, match="cannot resume: data: then then, now now"):
            writer.start(small_run(), "now")
        writer.start(small_run(), "now", force=True)
    assert run.record["data_fingerprint"] == "now"


def test_a_finished_run_is_kept_whatever_changed(store, changed, monkeypatch):
    execute(small_run(), store, DATA)
    before = store.run(small_run()).contents()
    changed(code="0123456789ab")
    monkeypatch.setattr(single_run, "_train", lambda *_: pytest.fail("trained again"))
    for force in (False, True):
        assert execute(small_run(), store, DATA, force=force).state == "done"
    assert store.run(small_run()).contents() == before


def test_with_other_threads_a_run_goes_on_and_it_is_noted_that_it_is_not_bit_identical(store):
    run = stopped_run(store, 13)
    assert execute(replace(small_run(), threads=2), store, DATA).state == "done"
    (note,) = run.notes()
    assert "threads 2 (started with 1)" in note["text"]
    assert note["bit_identical"] is False


@pytest.mark.parametrize("execution", ["reference", "fast"])
def test_a_run_whose_loss_is_not_finite_diverged_and_its_files_stay_strict_json(store, execution):
    config = replace(small_run(), recipe=RecipeConfig(epochs=2, learning_rate=1e30), execution=execution)
    outcome = execute(config, store, DATA)
    assert outcome.state == "diverged"
    assert "epoch 1" in outcome.reason
    assert store.run(config).result == {}
    assert execute(config, store, DATA).state == "diverged"
    for path in store.run(config).folder.rglob("*.json*"):
        for text in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(text, parse_constant=pytest.fail)
