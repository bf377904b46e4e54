"""File systems that lack something: flushing, locks. What they lack is said; faults of a disk stay faults."""

from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path

import pytest
from helpers.runs import small_run

from analysis.engines.single_run import Outcome, execute
from condense_core.files import Unflushed, append_row, atomic, flush, make_folder, move, write_json
from condense_core.store import RunHeld, RunStore, locks

DATA = Path("data")
CANNOT = ("EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EBADF")
FAULTS = ("EIO", "ENOSPC", "EDQUOT", "EROFS")


@pytest.fixture
def refuse(monkeypatch):
    """Let the flushing of folders, or of files as well, fail."""

    def refuse(number: int, files: bool) -> None:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            if files or os.path.isdir(f"/proc/self/fd/{descriptor}"):
                raise OSError(number, os.strerror(number))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        atomic._warn_unflushed.cache_clear()

    yield refuse
    atomic._warn_unflushed.cache_clear()


def write_everything(folder: Path) -> None:
    make_folder(folder / "a" / "b")
    write_json(folder / "a" / "one.json", {})
    append_row(folder / "a" / "rows.jsonl", {})
    flush(folder / "a" / "rows.jsonl")
    move(folder / "a" / "one.json", folder / "a" / "b" / "two.json")


@pytest.mark.parametrize("name", CANNOT)
@pytest.mark.parametrize("files", [False, True])
def test_on_a_file_system_that_cannot_flush_all_is_written_and_it_is_said_once(tmp_path, refuse, name, files):
    refuse(getattr(errno, name), files)
    with pytest.warns(Unflushed, match="cannot flush to its disk .*may be lost in a power cut") as said:
        write_everything(tmp_path)
    assert len(said) == 1
    assert (tmp_path / "a" / "b" / "two.json").read_text() == "{}\n"


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("files", [False, True])
def test_a_fault_of_the_disk_stays_an_error_that_names_the_file(tmp_path, refuse, name, files):
    refuse(getattr(errno, name), files)
    with pytest.raises(OSError, match=str(tmp_path)) as error:
        write_json(tmp_path / "one.json", {})
    assert error.value.errno == getattr(errno, name)


def test_a_folder_that_may_not_be_opened_is_written_all_the_same(tmp_path, refuse, monkeypatch):
    refuse(errno.EIO, files=False)

    def no_folder(path, flags, *rest):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *rest)

    opened = os.open
    monkeypatch.setattr(os, "open", no_folder)
    with pytest.warns(Unflushed):
        write_everything(tmp_path)


def created_and_trained(store: RunStore) -> Outcome:
    store.create()
    return execute(small_run(), store, DATA)


def test_a_run_is_trained_where_nothing_can_be_flushed(tmp_path, refuse):
    refuse(errno.EINVAL, files=True)
    store = RunStore(tmp_path / "runs")
    with pytest.warns(Unflushed) as said:
        outcome = created_and_trained(store)
    assert outcome.state == "done"
    assert len([one for one in said if one.category is Unflushed]) == 1


@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL", "EIO"])
def test_where_locks_do_not_work_the_heartbeat_holds_a_run(tmp_path, monkeypatch, name):
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with locks.hold(tmp_path, "run") as held:
            held.check()
            with pytest.raises(RunHeld, match=f"by process {os.getpid()} on"), locks.hold(tmp_path, "run"):
                pass
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]
