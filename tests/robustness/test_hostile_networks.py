"""Hostile checkpoints and condensed networks are refused in one line, within bounds of time and memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from helpers.limits import refused
from helpers.networks import lived_in
from helpers.official_states import official_state
from helpers.runs import small_model

from condense_core import ModelConfig, condense, load_official
from condense_core.deploy import load_condensed, save_condensed

pytestmark = pytest.mark.usefixtures("bounded")
MB = 1 << 20


# Checkpoints


def save_raw(path: Path, pickled: bytes, records: dict[str, bytes] | None = None, **settings) -> Path:
    """Write a zip as torch.save does, with a given pickle."""
    with zipfile.ZipFile(path, "w", **settings) as archive:
        for name, content in {"data.pkl": pickled, "version": b"3\n", **(records or {})}.items():
            archive.writestr(f"archive/{name}", content)
    return path


def calling(name: str, *arguments) -> bytes:
    """Return a pickle (protocol 2) that calls a function by its name."""
    module, _, function = name.rpartition(".")
    return b"\x80\x02c" + f"{module}\n{function}\n".encode() + pickle.dumps(arguments, 2)[2:-1] + b"R."


def refused_uncalled(folder, name: str, message: str) -> None:
    """Assert that checkpoints whose pickle calls a function are refused, and that it is not called."""
    sentinel = folder / "sentinel"
    for content in (calling(name, f"touch {sentinel}"), calling(name, 10**10)):
        refused(load_official, save_raw(folder / "c.pth.tar", content), message)
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "builtins.eval", "builtins.getattr", "subprocess.Popen", "torch.load", "torch.hub.load"),
        *("numpy.load", "torch.FloatTensor", "shutil.rmtree", "runpy.run_path", "pickle.loads"),
    ],
)
def test_a_checkpoint_that_calls_what_a_harmless_one_does_not_is_refused_unread(tmp_path, name):
    refused_uncalled(tmp_path, name, f"is refused: reading it would call {re.escape(name)}")


@pytest.mark.parametrize(
    "name",
    [
        *("numpy.core.multiarray._reconstruct", "builtins.bytearray", "_codecs.encode", "builtins.set"),
        *("numpy.dtype", "functools.partial", "pathlib.PosixPath", "helpers.limits.limited", "project.Mode"),
    ],
)
def test_what_lies_beside_weights_is_passed_over_and_never_called(tmp_path, name):
    refused_uncalled(tmp_path, name, f"holds an object of {re.escape(name)}, not a state dict")


def test_a_call_of_what_was_built_or_a_state_for_it_is_refused(tmp_path):
    for content in (b"\x80\x02)(K\x01tR.", b"\x80\x02}}b.", b"\x80\x02))\x81."):
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
    path = save_raw(tmp_path / "c.pth.tar", b"\x80\x02}" + nested + b"K\x01s.")
    refused(load_official, path, "a key of its tables")


def test_a_pickle_of_many_millions_of_lists_is_refused(tmp_path):
    path = save_raw(tmp_path / "c.pth.tar", b"\x80\x02" + b"]" * 3 * MB + b".")
    refused(load_official, path, "describes its tensors")
    deep = save_raw(tmp_path / "c.pth.tar", b"\x80\x02)" + b"\x85" * 100_000 + b".")
    refused(load_official, deep, "holds no state dict")


def test_a_checkpoint_of_a_network_far_larger_than_itself_is_refused(tmp_path, state):
    wide = dict(state)
    for name, shape in (("conv_1.conv", (65_536, 1, 1, 1)), ("conv_2.conv", (16_384, 4, 1, 1))):
        wide[f"features.denseblock_1.denselayer_1.{name}.weight"] = torch.zeros(shape)
    for name in [name for name in wide if "conv_1._" in name]:
        del wide[name]
    torch.save({"state_dict": wide}, tmp_path / "c.pth.tar")
    message = "but the network that it describes would have|is not a network"
    refused(load_official, tmp_path / "c.pth.tar", message)


def test_values_that_are_not_finite_are_refused(tmp_path, state):
    for value in (float("nan"), float("inf")):
        bias = {"classifier.bias": torch.full((10,), value)}
        torch.save({"state_dict": state | bias}, tmp_path / "c.pth.tar")
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
