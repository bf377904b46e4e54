"""A run on a folder is named by the images, not by where they lie; runs named by their path are still found."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.studies import Study
from condense_core import DataConfig, RunConfig
from condense_core.data import load, summarise
from condense_core.store import RunStore
from condense_core.validation import to_dict

SMALL = {
    "stages": (1, 1, 1),
    "growth": ("exponential",),
    "connectivity": ("full",),
    "grouping": ("learned",),
    "reference": False,
    "dense_equal": False,
    "sizes": (),
    "seeds": 1,
    "epochs": 1,
    "match": "width",
    "validation_fraction": 0.0,
}


def draw(folder: Path, seed: int = 0) -> Path:
    """Two classes of four pictures in both splits: other colours with another seed, but files as long."""
    draws = np.random.default_rng(seed)
    for place in range(16):
        path = folder / ("train", "test")[place % 2] / "ab"[place // 2 % 2] / f"{place}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The working folder and the home, with the folder 'images'."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    draw(tmp_path / "images")
    return tmp_path


def study(data: str, **settings) -> Study:
    return Study.named("grouping", device="cpu", data=data, **SMALL | settings)


def name_of(data: str, **settings) -> str:
    ((_, config),) = study(data, **settings).run_configs()
    return config.name


SPELLINGS = [
    "images",
    "./images",
    "images/",
    "images//",
    "../{here}/images",
    "{path}/images",
    "~/images",
    "link",
]
SPELLINGS += ["images/../images", "copy", "elsewhere/copy"]


@pytest.mark.parametrize("kind", ["folder", "imagenet"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_same_images_give_the_same_run_wherever_they_lie(here, kind, spelling):
    (here / "link").symlink_to("images")
    shutil.copytree("images", "copy")
    shutil.copytree("images", "elsewhere/copy")
    path = spelling.format(here=here.name, path=here)
    assert name_of(f"{kind}:{path}") == name_of(f"{kind}:images")
    assert name_of("folder:images") != name_of("imagenet:images")


def test_a_size_that_the_images_have_is_no_other_run(here):
    assert name_of("folder:images", data_image_size=8) == name_of("folder:images")
    assert name_of("folder:images", data_image_size=12) != name_of("folder:images")


def rename_a_file(folder: Path) -> None:
    (folder / "train/a/0.bmp").rename(folder / "train/a/9.bmp")


def move_to_another_class(folder: Path) -> None:
    (folder / "train/a/0.bmp").rename(folder / "train/b/0.bmp")


def change_a_pixel(folder: Path) -> None:
    path = folder / "test/b/3.bmp"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def draw_others(folder: Path) -> None:
    draw(folder, seed=1)


@pytest.mark.parametrize("change", [rename_a_file, move_to_another_class, change_a_pixel, draw_others])
def test_other_images_are_another_run(here, change):
    shutil.copytree("images", "other")
    change(here / "other")
    assert name_of("folder:other") != name_of("folder:images")


def test_images_that_change_after_the_plan_are_refused(here):
    data = replace(
        DataConfig("folder:images", 0.0), content=summarise(DataConfig("folder:images", 0.0)).content
    )
    assert load(data, here / "data").fingerprint
    draw(here / "images", seed=1)
    with pytest.raises(ValueError, match="data 'folder:images': holds other images than those of content"):
        load(data, here / "data")


def name_by_path(store: RunStore, data: str) -> str:
    """Give the one run of a store the name and the record that earlier versions gave it."""
    (run,) = store.runs()
    record = run.record
    older: RunConfig = replace(run.config, data=replace(run.config.data, name=data, content=None))
    record["config"] = to_dict(older)
    del record["config"]["data"]["content"]
    (run.folder / "config.json").write_text(json.dumps(record))
    run.folder.rename(run.folder.with_name(older.name))
    (path,) = store.study_files()
    path.write_text(path.read_text().replace(run.name, older.name))
    return older.name


@pytest.mark.parametrize("spelling", ["images", "./images", "images/", "{path}/images", "~/images"])
def test_a_run_that_is_named_by_its_path_is_found_reported_and_not_trained_again(here, spelling):
    study("folder:images").run("runs", "data")
    store = RunStore(here / "runs")
    older = name_by_path(store, f"folder:{spelling.format(path=here)}")
    for data in ("folder:images", f"folder:{here}/images/"):
        frame = study(data).run("runs", "data")
        assert frame.run.tolist() == [older]
    assert [run.name for run in store.runs()] == [older]
    assert store.runs()[0].config.name == older


def test_a_run_that_is_named_by_its_path_is_not_taken_for_one_on_other_images(here):
    study("folder:images").run("runs", "data")
    older = name_by_path(RunStore(here / "runs"), "folder:images")
    draw(here / "images", seed=1)
    with pytest.raises(
        ValueError, match=f"run {older}: was trained on other images than 'folder:images' holds"
    ):
        study("folder:images").run("runs", "data")


def test_a_study_whose_images_changed_says_so(here):
    study("folder:images").run("runs", "data")
    draw(here / "images", seed=1)
    with pytest.warns(UserWarning, match="was another study before .of other images in folder:images"):
        study("folder:images").run("runs", "data")
    assert len(RunStore(here / "runs").runs()) == 2
