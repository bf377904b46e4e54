"""Packed stores: small, unpacked when they are opened, then reported and extended like any store."""

from __future__ import annotations

import io
import lzma
import os
import shutil
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.mutations import Draws
from helpers.runs import BENCHMARK, SMALL_STUDY, small_run

from analysis import frames
from analysis.condense import condense
from analysis.engines.single_run import execute
from analysis.pack import pack as pack_command
from analysis.reporting import StudyReport
from analysis.reporting.page import render
from analysis.studies import Study
from analysis.studies.tuning import FIRST_SEED
from condense_core.store import RunStore, find_damages, pack, packed


@pytest.fixture(autouse=True)
def no_flush(monkeypatch):
    """Flush no disk, which other processes may be busy with."""
    monkeypatch.setattr(packed, "_sync", lambda: None)


@pytest.fixture
def full(small_store, tmp_path) -> RunStore:
    """The small study with weights, and a benchmark."""
    shutil.copytree(small_store.root, tmp_path / "full")
    store = RunStore(tmp_path / "full")
    store.write_benchmark(BENCHMARK)
    return store


@pytest.fixture
def archive(small_store, tmp_path) -> Path:
    """The small study, packed in a folder of its own."""
    return pack(small_store, ["small"], tmp_path / "packed").path


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def write_archive(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> None:
    """Write an archive with these members; those of a name and a content are plain files."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(lzma.compress(plain.getvalue()))


def test_a_report_of_a_packed_store_is_that_of_the_full_one_byte_for_byte(full, tmp_path, undrawn):
    done = pack(full, ["small"], tmp_path / "elsewhere" / "store")
    assert done.size < sum(path.stat().st_size for path in full.root.rglob("*") if path.is_file()) / 10
    unpacked = RunStore(done.path.parent)
    assert render([StudyReport(unpacked, "small")]) == render([StudyReport(full, "small")])
    assert not find_damages(unpacked, [run.name for run in unpacked.runs()])


def test_all_of_a_run_is_there_but_weights_and_checkpoints(full, tmp_path):
    unpacked = RunStore(pack(full, ["small"], tmp_path / "packed").path.parent)
    for run in full.runs():
        whole = names_in(run.folder)
        left_out = {name for name in whole if name.startswith("checkpoints/") or name == "weights.safetensors"}
        assert left_out
        assert names_in(unpacked.root / run.name) == whole - left_out
        for name in whole - left_out:
            assert (unpacked.root / run.name / name).read_bytes() == (run.folder / name).read_bytes()


def test_frames_open_a_packed_store(archive):
    assert set(frames.study_runs(archive.parent, "small").state) == {"done"}


def test_equal_stores_give_equal_bytes_wherever_and_whenever_they_were_written(small_store, archive, tmp_path):
    shutil.copytree(small_store.root, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(0o700)
    again = pack(RunStore(tmp_path / "copy"), ["small"], tmp_path / "again").path
    assert again.read_bytes() == archive.read_bytes()


def test_what_was_unpacked_packs_to_the_same_bytes(archive, tmp_path):
    assert pack(RunStore(archive.parent), ["small"], tmp_path / "x").path.read_bytes() == archive.read_bytes()


def test_a_study_goes_on_in_a_packed_store_and_trains_only_what_is_new(archive):
    before = {run.name for run in RunStore(archive.parent).runs()}
    found = Study.named("ablation", **SMALL_STUDY | {"seeds": 3}).run(archive.parent)
    trained = {path.parent.name for path in archive.parent.glob("*/weights.safetensors")}
    assert set(found.state) == {"done"}
    assert trained == set(found.run) - before
    assert before < set(found.run)


def test_what_needs_weights_says_that_there_are_none(archive, tmp_path):
    store = RunStore(archive.parent)
    run = next(run for run in store.runs() if run.name.startswith("learned"))
    without = r"was packed without weights and checkpoints \(runs.tar.xz\), so use the store that trained it"
    with pytest.raises(FileNotFoundError, match=without):
        run.weights()
    with pytest.raises(FileNotFoundError, match=f"stage 1: .*keeps no such state; there: none; .*{without}"):
        run.fork(1, criterion="random")
    options = [run.name, "--to", str(tmp_path / "small.safetensors"), "--runs", str(archive.parent)]
    error = CliRunner().invoke(condense, options, standalone_mode=False).exception
    assert "was packed without weights" in str(error)


def test_a_study_with_forks_of_packed_runs_is_refused_before_it_trains(archive):
    base = {"seeds": 1, "grouping": ("learned",), "growth": ("exponential",), "connectivity": ("full",)}
    forked = Study.named("ablation", **SMALL_STUDY | base | {"fork": ("1:criterion=random",)})
    before = {run.name for run in RunStore(archive.parent).runs()}
    with pytest.raises(FileNotFoundError, match="was packed without weights"):
        forked.run(archive.parent)
    assert {run.name for run in RunStore(archive.parent).runs()} == before


def test_runs_that_a_study_starts_from_are_packed_with_it(store, tmp_path):
    parent = small_run()
    execute(parent, store, Path("data"))
    fork = store.run(parent).fork(2, criterion="random")
    execute(fork, store, Path("data"))
    variant = {"label": "fork", "role": "base", "size": 4, "residual": 0.0, "runs": [fork.name]}
    store.write_study("forks", {"question": "?", "settings": {}, "variants": [variant]})
    done = pack(store, ["forks"], tmp_path / "packed")
    assert done.runs == 2
    assert {run.name for run in RunStore(done.path.parent).runs()} == {parent.name, fork.name}


def test_runs_that_a_tuning_starts_from_are_packed_with_it(store, tmp_path):
    parent, alone = small_run(), small_run(seed=1)
    for config in (parent, alone):
        execute(config, store, Path("data"))
    fork = store.run(parent).fork(2, criterion="random")
    execute(fork, store, Path("data"))
    variant = {"label": "fork", "role": "base", "size": 4, "residual": 0.0, "runs": [alone.name]}
    trial = {"variant": "fork", "values": {}, "runs": [fork.name], "chosen": True, "error_percent": 9.0}
    trial |= {"loss": 1.0, "training_macs": 1, "seconds": 1.0}
    store.write_study("tuned", {"question": "?", "settings": {}, "variants": [variant], "tuning": [trial]})
    done = pack(store, ["tuned"], tmp_path / "packed")
    assert {run.name for run in RunStore(done.path.parent).runs()} == {parent.name, alone.name, fork.name}


def test_of_runs_that_only_tune_no_outcomes_and_importances_are_packed(tmp_path, undrawn):
    tuned = {"name": "tuned", "tune": {"learning_rate": (0.01, 0.1)}, "tune_seeds": 1}
    study = Study.named("grouping", **SMALL_STUDY | tuned | {"sizes": (), "seeds": 1, "grouping": ("learned",)})
    study.run(tmp_path / "full")
    full = RunStore(tmp_path / "full")
    unpacked = RunStore(pack(full, ["tuned"], tmp_path / "packed").path.parent)
    left_out = {"outcomes.safetensors", "importance.jsonl"}
    for run in unpacked.runs():
        assert {path.name for path in run.folder.iterdir()} >= {"metrics.jsonl", "stages"}
        assert {path.name for path in run.folder.iterdir()}.isdisjoint(left_out) == (run.seed >= FIRST_SEED)
    assert not find_damages(unpacked, [run.name for run in unpacked.runs()])
    assert render([StudyReport(unpacked, "tuned")]) == render([StudyReport(full, "tuned")])


def test_a_newer_archive_adds_what_is_missing_and_takes_nothing_away(full, archive):
    root = archive.parent
    own = RunStore(root).runs()[0].folder
    (own / "notes.jsonl").write_text('{"time": 1.0, "text": "mine", "bit_identical": true}\n')
    shutil.rmtree(RunStore(root).runs()[1].folder)
    RunStore(root).write_study("mine", full.read_study("small"))
    pack(full, ["small"], root)
    store = RunStore(root)
    assert {run.name for run in store.runs()} == {run.name for run in full.runs()}
    assert len(store.benchmarks()) == 1
    assert [note["text"] for note in store.named(own.name).notes()] == ["mine"]
    assert store.read_study("mine")


def test_an_archive_is_unpacked_once(archive, monkeypatch):
    RunStore(archive.parent)
    monkeypatch.setattr(packed, "_extract", lambda *_: pytest.fail("unpacked again"))
    RunStore(archive.parent)


@pytest.mark.parametrize("step", [0, 1, 5, 100])
@pytest.mark.parametrize("call", ["write_bytes", "rename", "replace"])
def test_interrupted_anywhere_it_is_unpacked_whole_the_next_time(archive, tmp_path, monkeypatch, call, step):
    whole = tmp_path / "whole"
    shutil.copytree(archive.parent, whole)
    RunStore(whole)
    left, real, remove = [step], getattr(Path, call), shutil.rmtree

    def interrupted(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Path, call, interrupted)
        # a process that is killed cleans nothing up
        patch.setattr(packed.shutil, "rmtree", lambda *a, **k: None if left[0] < 0 else remove(*a, **k))
        try:
            RunStore(archive.parent)
        except KeyboardInterrupt:
            assert not (archive.parent / "store.json").exists()
    RunStore(archive.parent)
    assert names_in(archive.parent) == names_in(whole)


def test_a_folder_that_cannot_be_written_says_what_to_do(archive, monkeypatch):
    monkeypatch.setattr(packed.os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="cannot be unpacked there; copy the folder to one of your own"):
        RunStore(archive.parent)
    assert names_in(archive.parent) == {"runs.tar.xz"}


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "hostile",
    [
        *(member(name) for name in ("../out", "/tmp/out", "run/../../out", "run/.hidden", "run//x", "a\\b/c")),
        *(member(name) for name in ("store.json", "runs.tar.xz", "a/b/c/d", "run/\x1b[2J")),
        member("run/config.json", tarfile.SYMTYPE, "/etc/passwd"),
        member("run/config.json", tarfile.LNKTYPE, "../../out"),
        member("run/config.json", tarfile.FIFOTYPE),
        member("run/config.json", tarfile.CHRTYPE),
        member("run/config.json", tarfile.GNUTYPE_SPARSE),
        member("run/stages", tarfile.DIRTYPE),
    ],
    ids=lambda info: f"{info.name!r}-{info.type.decode(errors='replace')}",
)
def test_an_archive_with_anything_else_is_refused_and_nothing_is_unpacked(tmp_path, hostile):
    path = tmp_path / "packed" / "runs.tar.xz"
    write_archive(path, ("run/config.json", b"{}"), hostile)
    with pytest.raises(ValueError, match=r"runs.tar.xz: cannot be unpacked"):
        RunStore(path.parent)
    assert [entry.name for entry in tmp_path.iterdir()] == ["packed"]
    assert not [name for name in names_in(path.parent) if name != path.name and not name.startswith("locks/")]


@pytest.mark.parametrize("damage", ["cut", "flipped", "no xz", "no tar", "bomb", "study"])
def test_a_damaged_archive_is_named(archive, monkeypatch, damage):
    content = archive.read_bytes()
    if damage == "bomb":
        monkeypatch.setattr(packed, "MAX_UNPACKED", 10_000)
    elif damage == "study":
        write_archive(archive, ("studies/small.json", b'{"variants": 1}'))
    else:
        archive.write_bytes(
            {
                "cut": content[: len(content) // 2],
                "flipped": content[:-200] + bytes([content[-200] ^ 1]) + content[-199:],
                "no xz": b"PK" + content,
                "no tar": lzma.compress(b"x" * 2000),
            }[damage]
        )
    with pytest.raises(ValueError, match=r"runs.tar.xz: cannot be unpacked"):
        RunStore(archive.parent)
    assert not (archive.parent / "store.json").exists()


def test_an_archive_whose_bytes_are_changed_at_random_is_refused_or_unpacked_inside(archive, tmp_path):
    run = next(path for path in RunStore(archive.parent).runs()).folder
    files = {path.relative_to(run.parent).as_posix(): path for path in run.rglob("*") if path.is_file()}
    write_archive(archive, *((name, path.read_bytes()) for name, path in files.items()))
    plain, draws, before = bytearray(lzma.decompress(archive.read_bytes())), Draws(0), set(tmp_path.iterdir())
    headers = [place for place in range(0, len(plain), 512) if plain[place + 257 : place + 262] == b"ustar"]
    for _ in range(200):
        changed = bytearray(plain)
        for _ in range(draws.randint(1, 4)):
            changed[draws.choice(headers) + draws.randint(0, 511)] = draws.randint(0, 255)
        shutil.rmtree(archive.parent)
        archive.parent.mkdir()
        archive.write_bytes(lzma.compress(changed, preset=0))
        with suppress(ValueError, OSError):
            RunStore(archive.parent)
        assert set(tmp_path.iterdir()) == before


def test_the_command_packs_all_studies_and_prints_the_size(full, tmp_path):
    def ask(*options: str):
        return CliRunner().invoke(pack_command, [*options, "--runs", str(full.root)], standalone_mode=False)

    answer = ask("--to", str(tmp_path / "packed"))
    assert "runs.tar.xz  (0." in answer.stdout
    assert "studies: 1, runs:" in answer.stdout
    assert "did you mean 'small'?" in str(ask("smal", "--to", str(tmp_path / "other")).exception)
    assert "is the store itself" in str(ask("--to", str(full.root)).exception)
    run = full.runs()[0]
    (run.folder / "outcomes.safetensors").write_bytes(b"x")
    assert "outcomes.safetensors" in str(ask("--to", str(tmp_path / "other")).exception)
    assert not (tmp_path / "other").exists()
