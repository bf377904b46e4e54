"""Hostile checkpoints, stores and texts: refused in a line or shown inertly, within bounds."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import re
import shutil
import struct
import sys
import tarfile
import unicodedata
import warnings
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
import torch
from helpers.limits import limited
from helpers.networks import lived_in
from helpers.official_states import official_state
from helpers.packages import NEEDED
from helpers.paths import ROOT
from helpers.runs import BENCHMARK, small_model, small_run

from analysis import frames
from analysis.ablate import ablate
from analysis.bench import bench
from analysis.cli import main
from analysis.condense import condense as condense_command
from analysis.cost import cost
from analysis.engines.single_run import execute
from analysis.networks import load_run
from analysis.report import report
from analysis.reporting import StudyReport, write_report
from analysis.text import inert
from condense_core import ModelConfig, condense, load_official
from condense_core.deploy import load_condensed, save_condensed
from condense_core.files import write_json
from condense_core.store import LeftOut, Run, RunStore, check_run

MB = 1 << 20


@pytest.fixture(autouse=True)
def bounded():
    """No test here may take ten seconds or half a gigabyte, whatever it reads."""
    load_nothing = small_model()  # what is imported late does not count
    assert load_nothing
    with limited(20, 512 * MB):
        yield


def refused(read, path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


# Checkpoints


def save_raw(path: Path, pickled: bytes, records: dict[str, bytes] | None = None, **settings) -> Path:
    """A zip as torch.save writes it, with a pickle of one's own."""
    with zipfile.ZipFile(path, "w", **settings) as archive:
        for name, content in {"data.pkl": pickled, "version": b"3\n", **(records or {})}.items():
            archive.writestr(f"archive/{name}", content)
    return path


def calling(name: str, *arguments) -> bytes:
    """A pickle (protocol 2) that calls what it names."""
    module, _, function = name.rpartition(".")
    return b"\x80\x02c" + f"{module}\n{function}\n".encode() + pickle.dumps(arguments, 2)[2:-1] + b"R."


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "builtins.eval", "builtins.getattr", "subprocess.Popen", "torch.load", "torch.hub.load"),
        *("numpy.core.multiarray._reconstruct", "builtins.bytearray", "_codecs.encode", "torch.FloatTensor"),
    ],
)
def test_a_checkpoint_that_calls_anything_but_tensors_is_refused_unread(tmp_path, name):
    sentinel = tmp_path / "sentinel"
    for content in (calling(name, f"touch {sentinel}"), calling(name, 10**10)):
        path = save_raw(tmp_path / "c.pth.tar", content)
        refused(load_official, path, f"is refused: reading it would call {re.escape(name)}")
    assert not sentinel.exists()


def test_a_call_of_what_was_built_or_a_state_for_it_is_refused(tmp_path):
    for content in (b"\x80\x02)(K\x01tR.", b"\x80\x02}}b.", b"\x80\x02cbuiltins\nset\n)\x81."):
        refused(load_official, save_raw(tmp_path / "c.pth.tar", content), "is refused|is no file of torch.save")


@pytest.fixture(scope="module")
def state():
    return official_state(lived_in(small_model(growth=(8, 8, 8), groups_3x3=4, image_size=32)))


def test_compressed_records_are_refused_before_they_are_unpacked(tmp_path, state):
    torch.save({"state_dict": state}, tmp_path / "whole.pth.tar")
    path = tmp_path / "bomb.pth.tar"
    with (
        zipfile.ZipFile(tmp_path / "whole.pth.tar") as whole,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb,
    ):
        for name in whole.namelist():
            with bomb.open(name, "w") as record:
                record.write(whole.read(name))
                for _ in range(40 * name.endswith("data/0")):
                    record.write(bytes(16 * MB))
    assert path.stat().st_size < 8 * MB
    refused(load_official, path, "has compressed records")


def test_records_that_overlap_or_stand_twice_are_refused(tmp_path):
    path = save_raw(tmp_path / "c.pth.tar", b"\x80\x02}.", {"data/0": bytes(MB)})
    with zipfile.ZipFile(path, "a") as archive:
        entry = archive.getinfo("archive/data/0")
        for place in range(50):
            twin = zipfile.ZipInfo(f"archive/data/{place + 1}")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(twin, name, getattr(entry, name))
            archive.filelist.append(twin)
        archive._didModify = True
    refused(load_official, path, "has records that overlap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}.")
            archive.writestr("other/data.pkl", b"\x80\x02}.")
    refused(load_official, path, "has records twice")


@pytest.mark.parametrize("items", [10**6, 2**31 - 1])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_storage_larger_than_what_is_there_is_refused(tmp_path, items, legacy):
    path = tmp_path / "c.pth.tar"
    torch.save({"features.init_conv.weight": torch.zeros(300)}, path, _use_new_zipfile_serialization=not legacy)
    old, new = b"M,\x01", b"J" + struct.pack("<i", items)
    if legacy:
        content = path.read_bytes()
        assert content.count(old) >= 1
        path.write_bytes(content.replace(old, new))
    else:
        with zipfile.ZipFile(path) as archive:
            records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
        pickled = records.pop("data.pkl")
        assert old in pickled
        save_raw(path, pickled.replace(old, new), records)
    refused(load_official, path, "its storage '.*' would have [0-9,]+ bytes")


def test_a_tensor_that_shows_one_value_many_times_is_refused(tmp_path, state):
    for shape in ((10**9, 1, 1, 1), (10**6, 10**6, 1, 1)):
        huge = torch.zeros(1).view(1, 1, 1, 1).expand(shape)
        torch.save({"state_dict": state | {"features.init_conv.weight": huge}}, tmp_path / "c.pth.tar")
        refused(load_official, tmp_path / "c.pth.tar", "larger than the file")


def test_a_key_that_would_take_years_to_hash_is_refused(tmp_path):
    nested = b")" + b"q\x00h\x00\x86" * 200  # pairs of pairs of pairs …: 2^200 of them
    refused(
        load_official,
        save_raw(tmp_path / "c.pth.tar", b"\x80\x02}" + nested + b"K\x01s."),
        "a key of its tables",
    )


def test_a_pickle_of_many_millions_of_lists_is_refused(tmp_path):
    refused(
        load_official,
        save_raw(tmp_path / "c.pth.tar", b"\x80\x02" + b"]" * 3 * MB + b"."),
        "describes its tensors",
    )
    deep = save_raw(tmp_path / "c.pth.tar", b"\x80\x02)" + b"\x85" * 100_000 + b".")
    refused(load_official, deep, "holds no state dict")


def test_a_checkpoint_of_a_network_far_larger_than_itself_is_refused(tmp_path, state):
    wide = dict(state)
    for name, shape in (("conv_1.conv", (65_536, 1, 1, 1)), ("conv_2.conv", (16_384, 4, 1, 1))):
        wide[f"features.denseblock_1.denselayer_1.{name}.weight"] = torch.zeros(shape)
    for name in [name for name in wide if "conv_1._" in name]:
        del wide[name]
    torch.save({"state_dict": wide}, tmp_path / "c.pth.tar")
    refused(
        load_official, tmp_path / "c.pth.tar", "but the network that it tells of would have|is not a network"
    )


def test_values_that_are_not_finite_are_refused(tmp_path, state):
    for value in (float("nan"), float("inf")):
        torch.save(
            {"state_dict": state | {"classifier.bias": torch.full((10,), value)}}, tmp_path / "c.pth.tar"
        )
        refused(load_official, tmp_path / "c.pth.tar", r"classifier\.bias has values that are not finite")


def test_an_old_tar_is_refused_and_nothing_is_unpacked(tmp_path):
    path = tmp_path / "c.pth.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "../outside", str(tmp_path / "absolute")):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
    refused(load_official, path, "cannot be read: it is truncated or no file of torch.save")
    assert list(tmp_path.iterdir()) == [path]


def test_records_with_names_that_lead_elsewhere_are_not_written(tmp_path, state):
    torch.save({"state_dict": state}, tmp_path / "c.pth.tar")
    with zipfile.ZipFile(tmp_path / "c.pth.tar", "a") as archive:
        for name in ("../../outside", "/tmp/absolute", "archive/../../outside"):
            archive.writestr(name, b"evil")
    load_official(tmp_path / "c.pth.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["c.pth.tar"]


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    for name in ("pipe", "folder", "loop"):
        with pytest.raises((ValueError, OSError), match=name):
            load_condensed(tmp_path / f"{name}.safetensors")
    for path in ("pipe.safetensors", "loop.safetensors"):
        with pytest.raises((ValueError, OSError)):
            load_official(tmp_path / path)


# Condensed networks


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("network") / "n.safetensors"
    save_condensed(condense(lived_in(small_model())), path)
    return path.read_bytes()


def with_header(content: bytes, change) -> bytes:
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def shift(name: str, value):
    def change(header):
        entry = header["norm.weight"]
        entry[name] = value(entry[name])

    return change


HEADERS = {
    "overlap": shift("data_offsets", lambda ends: [0, ends[1] - ends[0]]),
    "overflow": shift("data_offsets", lambda ends: [2**64 - 4, 2**64]),
    "beyond the file": shift("data_offsets", lambda ends: [ends[0], 10**15]),
    "negative": shift("data_offsets", lambda ends: [-4, 4]),
    "backwards": shift("data_offsets", lambda ends: ends[::-1]),
    "another shape": shift("shape", lambda shape: [2**40, 2**40]),
    "no numbers": shift("shape", lambda shape: ["a"]),
    "unknown type": shift("dtype", lambda dtype: "F7"),
    "no table": lambda header: header.update({"norm.weight": 3}),
}


@pytest.mark.parametrize("fault", HEADERS)
def test_a_header_that_does_not_fit_its_file_is_refused(tmp_path, network, fault):
    path = tmp_path / "n.safetensors"
    path.write_bytes(with_header(network, HEADERS[fault]))
    refused(load_condensed, path, "is not a safetensors file|its tensors should have")


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**62, 2**64 - 1])
def test_a_header_of_an_absurd_length_is_refused(tmp_path, network, size):
    path = tmp_path / "n.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + network[8:])
    refused(load_condensed, path, "its header would have")


def test_huge_files_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "n.safetensors"
    header = json.dumps({"a": {"dtype": "U8", "shape": [2**40], "data_offsets": [0, 2**40]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + 2**40)  # a terabyte of nothing, which takes no space on the disk
    refused(load_condensed, path, "bytes, more than")
    path.write_bytes((64 * MB).to_bytes(8, "little") + b"{")
    os.truncate(path, 100 * MB)
    refused(load_condensed, path, "its header would have")


def notes(**changes):
    def change(header):
        header["__metadata__"].update(changes)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (notes(model="{"), "model: is not JSON"),
        (notes(model="[" * 100_000), "nested too deeply"),
        (notes(model="[]"), "model .*must be a table"),
        (notes(model=json.dumps({"stages": [10**9], "growth": [4]})), "stages 1000000000: must be"),
        (notes(model=json.dumps({"stages": [500], "growth": [16384], "image_size": 8})), "would have"),
        (notes(plan=json.dumps({"layers": []})), "plan: network is missing"),
        (notes(format="other"), "is not a condensed network"),
    ],
)
def test_notes_that_lie_are_refused(tmp_path, network, change, message):
    path = tmp_path / "n.safetensors"
    path.write_bytes(with_header(network, change))
    refused(load_condensed, path, message)


@pytest.mark.parametrize("values", [{}, {"dense": "fast"}, {"evil": 1.0}, {"dense": -1}, {"dense": [1]}])
def test_a_plan_of_what_is_no_execution_is_refused(tmp_path, network, values):
    layer = {"name": "x", "in_channels": 1, "kept": 1, "milliseconds": values}
    rest = {"network": {"fast": 1.0}, "batch": 1, "image_size": [8, 8], "threads": 1, "processor": "p"}
    path = tmp_path / "n.safetensors"
    path.write_bytes(with_header(network, notes(plan=json.dumps({"layers": [layer], **rest}))))
    refused(load_condensed, path, "plan: x: must have milliseconds of grouped, union, dense")


def test_absurd_networks_are_refused_before_they_are_counted():
    for settings in ({"stages": (1001,), "growth": (4,)}, {"stages": (1000, 1000), "growth": (4, 4)}):
        with pytest.raises(ValueError, match=r"stages .*at most 1000"):
            ModelConfig(**settings)
    with pytest.raises(ValueError, match="condense_factor 1000000: must be"):
        ModelConfig((1,), (4,), condense_factor=10**6)


# Run stores


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> RunStore:
    """A run that is done, in a study of its own, beside times that were measured."""
    store = RunStore(tmp_path_factory.mktemp("hostile") / "runs")
    store.create()
    assert execute(small_run(), store, store.root).state == "done"
    run = store.runs()[0].name
    shutil.copytree(store.root / run, store.root / "sound")
    variants = [{**VARIANT, "label": label, "role": role, "runs": runs} for label, role, runs in (
        ("learned-exponential-full-k4", "base", [run]),
        ("another", "grid", ["sound"]),
    )]  # fmt: skip
    store.write_study(
        "one", {"name": "one", "question": "?", "settings": {"data": "digits"}, "variants": variants}
    )
    store.write_benchmark(BENCHMARK)
    return store


VARIANT = {"size": 4, "residual": 0.0, "curve": None}


@pytest.fixture
def store(trained, tmp_path) -> RunStore:
    shutil.copytree(trained.root, tmp_path / "runs")
    return RunStore(tmp_path / "runs")


@pytest.fixture
def run(store) -> Run:
    return next(run for run in store.runs() if run.name != "sound")


@pytest.fixture
def without_figures(monkeypatch):
    """Reports without their figures, which take seconds."""
    monkeypatch.setattr(StudyReport, "figures", [])


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Call a command line: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(command, *arguments):
        monkeypatch.setattr(sys, "argv", [command.name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main(command)
        return ended.value.code, *capsys.readouterr()

    return call


def edit(path: Path, **changes) -> None:
    write_json(path, json.loads(path.read_text()) | changes)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "..", ".hidden", "a/b", "a\\b", "", "\x1b[2J", "\u202ex", 3]
)
def test_a_study_cannot_name_runs_elsewhere(store, name):
    record = store.read_study("one")
    record["variants"][0]["runs"] = [name]
    write_json(store.root / "studies" / "one.json", record)
    refused(
        lambda _: store.read_study("one"),
        store.root / "studies" / "one.json",
        "must be (a plain file name|text)",
    )


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
    assert run.load_checkpoint() is None
    for note in run.notes():
        assert "a symbolic link leads out of" in note["text"]
        assert note["text"].endswith("none is whole: begun at the first step")


LINKS = ("config.json", "status.json", "result.json", "metrics.jsonl", "timing.jsonl", "weights.safetensors")
LINKS += (
    "stages",
    "checkpoints",
    "stages/end.json",
    "stages/end.safetensors",
    "../locks",
    "../locks/{name}.lock",
)


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
        run.set_state("stopped")  # one that is done needs no lock
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
    "status.json": [
        "",
        '{"state": "done", "time": 4e38}',
        '{"state": "evil"}',
        '{"state": 1}',
        '{"state": "done", "time": 1e999}',
    ],
    "result.json": ['{"weights_sha256": 1}', '{"test_error_percent": "low"}', '{"a": "\\ud800"}', HUGE],
    "metrics.jsonl": ["", "{}\n", "[]\n", '{"epoch": 1}\n', "nonsense\n"],
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
    chapter = StudyReport(store, "one")
    with pytest.warns(LeftOut, match=re.escape(str(run.folder))):
        names = list(chapter.runs.run)
    assert names == ["sound"]
    assert list(chapter.damaged) == [run.name]


@pytest.mark.parametrize("name", ["config.json", "result.json", "stages/end.json"])
def test_every_command_line_names_a_damaged_file_in_one_line(store, run, call, without_figures, name):
    (run.folder / name).write_text('{"torn": ')
    path = Path("runs") / run.name / name
    commands = (
        [(cost, run.name), (condense_command, run.name), (bench, run.name)] if name != "stages/end.json" else []
    )
    for command, *arguments in commands:
        status, out, err = call(command, *arguments, "--runs", "runs")
        assert (status, out) == (2, "")
        assert f"{path}: is not JSON (" in err
        assert err.count("\n") == 1
    status, out, err = call(report, "one", "--out", "page.html", "--runs", "runs")
    assert status == 0
    assert f"report: left out: {path}: is not JSON" in err
    assert f"{run.name} ({path}: is not JSON" in Path("page.html").read_text()


def test_a_study_with_a_damaged_run_trains_nothing(call, tmp_path):
    tiny = [
        "--stages",
        "1-1-1",
        "--growth",
        "exponential",
        "--connectivity",
        "full",
        "--sizes",
        "",
        "--seeds",
        "1",
    ]
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
    refused(
        lambda _: load_run(run), run.folder, "its weights are of another network|the network that it tells of"
    )


def test_a_damaged_benchmark_takes_no_report_away(store):
    (store.root / "benchmarks" / "0.json").write_text('{"times": 1}')
    with pytest.warns(LeftOut, match=r"benchmarks/0\.json: times 1: must be a list"):
        assert len(frames.times(store)) == 1


# Texts

EVIL = (
    "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\u2066\x00\x9b31m\r\n$\\frac{"
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&"
)


def is_inert(text: str) -> bool:
    """Whether a text has no character but line breaks that a terminal or a browser would obey."""
    return not any(
        unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in text.replace("\n", "")
    )


def test_what_a_terminal_would_obey_is_shown_as_an_escape():
    assert inert("\x1b[31mred\x07\u202e\ud800\u2028\x9b") == "\\x1b[31mred\\x07\\u202e\\ud800\\u2028\\x9b"
    for harmless in ("learned-exponential-full-k4", "1×1 – ± λ", "日本語", "می‌خواهم", "👩‍🔬", "a\xa0b"):
        assert inert(harmless) == harmless
    assert is_inert(inert("".join(map(chr, range(0x11000)))).replace("\u200c", "").replace("\u200d", ""))


def test_nothing_is_printed_but_through_what_makes_it_inert():
    for path in (ROOT / "analysis").rglob("*.py"):
        for line in path.read_text().splitlines():
            if "echo(" in line or re.search(r"\bprint\(", line):
                assert "json.dumps" in line or path.name == "text.py", f"{path.name}: {line.strip()}"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (cost, [EVIL.replace("\0", "")]),
        (cost, ["x.pth\x1b[2J\u202e.tar"]),
        (ablate, ["--study", "\x1b[2J\u202e"]),
        (ablate, ["--data", "folder:\x1b[2J\u202e"]),
        (ablate, ["--\x1b[2J"]),
        (ablate, ["\x1b[2J.toml"]),
        (report, ["\x1b[2J\u202e"]),
        (bench, ["x", "--execution", "\x1b[2J"]),
        (condense_command, ["x", "--to", "\x1b[2J.exe"]),
    ],
)
def test_an_error_is_one_inert_line(call, command, arguments):
    status, out, err = call(command, *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert is_inert(err)


def test_tables_progress_and_warnings_are_inert(store, run, call, capsys, without_figures):
    from analysis.engines.progress import Live
    from analysis.text import print_table, say

    print_table(EVIL, [EVIL, "b"], [[EVIL, "2"]])
    say(str(Live(EVIL, 1, 2, 0, None, None)))
    out = capsys.readouterr().out
    assert is_inert(out.replace("\x1b[1m", "").replace("\x1b[0m", ""))
    (run.folder / "status.json").write_text(json.dumps({"state": EVIL}))
    _, out, err = call(report, "one", "--out", "page.html", "--runs", store.root)
    assert "valid: diverged, done, failed, new, running, stopped" in err
    assert is_inert(out + err)


class Page(HTMLParser):
    """What of a page could act: elements, attributes, links; and what it says."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data):
        if self.lasttag not in ("script", "style"):
            self.said.append(data)


@pytest.fixture(scope="module")
def evil_page(trained, tmp_path_factory) -> Path:
    """The report of a store all of whose texts are hostile."""
    folder = tmp_path_factory.mktemp("evil")
    shutil.copytree(trained.root, folder / "runs")
    store = RunStore(folder / "runs")
    run = next(run for run in store.runs() if run.name != "sound")
    record = store.read_study("one")
    record |= {"question": EVIL, "settings": {EVIL: EVIL, "data": "=cmd|' /C calc'!A0"}}
    record["variants"][0] |= {"label": EVIL, "curve": EVIL}
    record["variants"][1] |= {"label": "=cmd|' /C calc'!A0", "curve": "+ learned"}
    store.write_study("one", record)
    edit(store.root / "sound" / "status.json", state="diverged", reason=EVIL)
    config = json.loads((run.folder / "config.json").read_text())
    config["environment"] = {EVIL: EVIL}
    config["data_fingerprint"] = EVIL
    write_json(run.folder / "config.json", config)
    evil = json.loads(json.dumps(BENCHMARK))
    for name in ("model", "execution", "processor"):
        evil["times"][0][name] = EVIL
    evil["parts"][0] |= {"model": EVIL, "layer": EVIL, "date": "2027"}
    evil["times"][0]["date"] = "2027"
    store.write_benchmark(evil)
    return write_report(StudyReport(store, "one"), folder / "reports")


def test_hostile_texts_are_inert_in_the_report_its_figures_and_its_tables(evil_page):
    text = evil_page.read_text(encoding="utf-8")
    page = Page(text)
    assert "alert(1)" in "".join(page.said), "it is shown"
    assert "\\x1b]0;owned\\x07" in "".join(page.said)
    assert is_inert(text)
    assert page.tags.count("script") == 2
    assert page.tags.count("img") == len(list(evil_page.parent.glob("*.svg")))
    assert not {"iframe", "object", "embed", "base", "form", "link"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("href", "src", "action", "data"):
            assert value.startswith(("#", "data:image/svg+xml,")), (tag, name, value)
    embedded = re.search(r'<script type="application/json" id="maps">(.*?)</script>', text, re.DOTALL)[1]
    assert "<" not in embedded
    json.loads(embedded)
    for url in [value for _, name, value in page.attributes if name == "src"]:
        check_svg(unquote(url.partition(",")[2]))
    for path in evil_page.parent.glob("*.svg"):
        check_svg(path.read_text(encoding="utf-8"))


def check_svg(text: str) -> None:
    assert is_inert(text)
    for element in ElementTree.fromstring(text).iter():
        assert element.tag.rpartition("}")[2] not in ("script", "foreignObject", "a")
        assert not any(name.lower().startswith("on") for name in element.attrib)
        for name, value in element.attrib.items():
            assert not name.endswith("href") or value.startswith(("#", "data:image/png;base64,"))


def test_a_spreadsheet_takes_no_text_of_a_table_for_a_formula(evil_page):
    for path in evil_page.parent.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file):
                for cell in row:
                    assert not cell.startswith(("=", "@", "\t", "\r"))
                    assert not cell.startswith(("+", "-")) or float(cell) is not None
    summary = (evil_page.parent / "summary.csv").read_text()
    assert "'=cmd|' /C calc'!A0" in summary


def test_every_test_that_the_document_names_is_there():
    text = (ROOT / "docs" / "security.md").read_text()
    rows = [row for row in text.split("## Trusted")[0].splitlines() if row.startswith("|")][2:]
    assert len(rows) >= 14
    assert all(re.search(r"`test_\w+`", row) for row in rows)
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in sources, name


def test_the_document_names_the_lowest_versions_that_the_project_allows():
    text = (ROOT / "docs" / "security.md").read_text()
    allowed = " ".join(NEEDED).lower()
    for name, version in re.findall(r"^\| `([a-z0-9]+)` \| ([\d.]+) \|", text, re.MULTILINE):
        assert f"{name}>={version}" in allowed
