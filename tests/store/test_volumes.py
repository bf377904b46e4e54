"""What systems leave on volumes is neither a store's nor in its way."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from helpers.processes import in_a_process

from condense_core.store import RunStore, check_run

FOLDERS = ("lost+found", ".snapshot", ".Trash-1000", "System Volume Information", "@eaDir", "$RECYCLE.BIN")
FILES = (".gitkeep", ".DS_Store", ".nfs0000000000a1b2c300000001", "Thumbs.db", "._store.json")


@pytest.mark.parametrize("name", [*FOLDERS, *FILES])
def test_a_store_is_made_beside_what_a_system_left(tmp_path, name):
    if name in FOLDERS:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(b"\0")
    store = RunStore(tmp_path)
    store.create()
    assert (store.runs(), RunStore(tmp_path).benchmarks()) == ([], [])
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["notes.txt", "lost", "src"])
def test_a_folder_of_something_else_is_refused(tmp_path, name):
    (tmp_path / name).write_text("")
    (tmp_path / ".gitkeep").write_text("")
    with pytest.raises(ValueError, match="is not a run store"):
        RunStore(tmp_path)


def test_what_macs_leave_beside_every_file_and_folder_of_a_store_is_not_read(small_store, tmp_path, recwarn):
    shutil.copytree(small_store.root, tmp_path / "runs")
    store = RunStore(tmp_path / "runs")
    names, contents = [run.name for run in store.runs()], [run.contents() for run in store.runs()]
    for path in [*store.root.rglob("*")]:
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7")
    assert [run.name for run in store.runs()] == names
    assert [run.contents() for run in store.runs()] == contents
    for run in store.runs():
        check_run(run)
    assert [path.name for path in store.study_files()] == ["small.json"]
    assert store.benchmarks() == []
    assert not recwarn.list


def test_a_folder_of_the_system_that_nobody_may_read_is_passed_over():
    def look() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)
        assert RunStore(place).runs() == []

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        (place / "lost+found").mkdir(mode=0)
        assert in_a_process(look) == 0
