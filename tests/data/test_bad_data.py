"""Bad files in a folder are named before training, and nothing is trained."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.ablate import ablate
from analysis.cli import main
from condense_core import DataConfig
from condense_core.data import load

TINY = ["--stages", "1-1-1", "--growth", "exponential", "--connectivity", "full", "--sizes", "", "--seeds", "1"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two classes of small JPEG images in both splits."""
    draws = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for place in range(4):
                pixels = draws.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / name / f"{place}.jpg")
    return tmp_path / "images"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int) -> bytes:
    """Return a PNG of very many black pixels in few bytes."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * min(height * (width // 8 + 1), 1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def write(content: bytes):
    return lambda path: path.write_bytes(content)


def truncate(path: Path) -> None:
    whole = path.with_name("0.jpg").read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
FAULTS = {
    "a truncated JPEG": ("x.jpg", truncate),
    "no bytes": ("x.png", write(b"")),
    "text by the name of an image": ("x.jpg", write(b"a,b\n1,2\n")),
    "a pointer of Git LFS": ("x.jpg", write(b"version https://git-lfs.github.com/spec/v1\nsize 5\n")),
    "a program's picture": ("x.png", write(EPS)),
    "a bomb": ("x.png", write(png(60_000, 60_000))),
    "half a bomb": ("x.png", write(png(12_000, 12_000))),
    "a strip": ("x.png", write(png(2_000_000, 1))),
    "a link to nowhere": ("x.jpg", lambda path: path.symlink_to("gone.jpg")),
    "a link to itself": ("x.jpg", lambda path: path.symlink_to("x.jpg")),
    "a named pipe": ("x.jpg", os.mkfifo),
    "a folder by the name of an image": ("x.jpg", lambda path: path.mkdir()),
    "a folder that is a link to the one above": ("x", lambda path: path.symlink_to("..")),
    "a file that cannot be read": ("x.jpg", lambda path: path.symlink_to("/proc/self/mem")),
}


@pytest.mark.parametrize("size", [None, 72])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_image_is_named_and_nothing_is_kept(folder, fault, size):
    name, make = FAULTS[fault]
    bad = folder / "train" / "b" / name
    make(bad)
    if fault == "a folder by the name of an image":
        Image.new("L", (8, 8)).save(bad / "0.png")  # it is only a folder, whose images belong to the class
        assert len(load(DataConfig(f"folder:{folder}", 0.0), folder.parent / "data").train) == 9
        return
    with pytest.raises(ValueError, match="data: ") as refused:
        load(DataConfig(f"folder:{folder}", 0.0, data_image_size=size), folder.parent / "data")
    assert str(bad) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (folder.parent / "data").exists()


@pytest.mark.parametrize(("target", "text"), [("gone", "leads nowhere"), ("x", "or to itself")])
def test_a_class_that_is_a_link_to_nowhere_or_itself_is_named(folder, target, text):
    (folder / "train" / "x").symlink_to(target)
    with pytest.raises(ValueError, match=f"train/x: is a link that .*{text}|train/x: is a link"):
        load(DataConfig(f"folder:{folder}"), folder.parent / "data")


def test_a_class_may_be_a_link_to_a_folder(folder):
    (folder / "train" / "b").rename(folder.parent / "elsewhere")
    (folder / "train" / "b").symlink_to(folder.parent / "elsewhere")
    assert len(load(DataConfig(f"folder:{folder}", 0.0), folder.parent / "data").train) == 8


def test_an_image_of_another_format_than_its_name_says_is_read(folder):
    Image.new("RGB", (8, 8), "red").save(folder / "train" / "b" / "x.jpg", format="PNG")
    assert len(load(DataConfig(f"folder:{folder}", 0.0), folder.parent / "data").train) == 9


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="file names there are text")
def test_a_name_that_is_no_text_is_read(folder):
    (folder / "train" / "b" / "0.jpg").rename(os.fsdecode(os.fsencode(folder / "train" / "b") + b"/\xff.jpg"))
    data = load(DataConfig(f"folder:{folder}", 0.0), folder.parent / "data")
    assert len(data.train) == 8
    assert data.fingerprint


@pytest.mark.parametrize(
    "fault", ["a truncated JPEG", "a link to nowhere", "a folder that is a link to the one above"]
)
def test_the_command_says_so_in_one_line_and_trains_nothing(folder, fault, monkeypatch, capsys):
    name, make = FAULTS[fault]
    make(folder / "test" / "b" / name)
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(sys, "argv", ["ablate", *TINY, "--data", "folder:images", "--validation-fraction", "0"])
    with pytest.raises(SystemExit) as ended:
        main(ablate)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert f"images/test/b/{name}" in err
    assert err.count("\n") == 1
    assert [path.name for path in folder.parent.iterdir()] == ["images"]


@pytest.mark.parametrize("damage", ["cut", "empty", "other pixels"])
def test_a_damaged_cache_is_decoded_again(folder, damage):
    config, data_dir = DataConfig(f"folder:{folder}", 0.0), folder.parent / "data"
    whole = load(config, data_dir).fingerprint
    (cache,) = (data_dir / "cache").glob("*.npz")
    if damage == "other pixels":
        np.savez(cache, train=np.zeros((2**20, 3, 8, 8), np.uint8)[:1], test=np.zeros((1, 3, 8, 8), np.uint8))
    else:
        cache.write_bytes(b"" if damage == "empty" else cache.read_bytes()[:-200])
    assert load(config, data_dir).fingerprint == whole
