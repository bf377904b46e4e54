"""The explorer, used without a browser, and the HTML of runs and studies in a notebook."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import re
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from analysis import Study, frames, plots
from condense_core.cost import cost_table
from condense_core.store import Run, RunStore

pytest.importorskip("ipywidgets")

from analysis.explorer import explore, widgets as module
from analysis.explorer.widgets import ALL_RUNS

EVIL = "<script>alert('x')</script>"
LEARNED, RANDOM, DENSE = (f"{grouping}-exponential-full-k4" for grouping in ("learned", "random", "none"))


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.named(
        "ablation",
        name="small",
        device="cpu",
        grouping=("learned", "random"),
        growth=("exponential",),
        connectivity=("full",),
        stages=(2, 1, 1),
        sizes=(),
        dense_equal=False,
        seeds=2,
        epochs=4,
        train_images=128,
    )


@pytest.fixture(scope="module")
def trained(study, tmp_path_factory) -> RunStore:
    root = tmp_path_factory.mktemp("study") / "runs"
    study.run(root)
    return RunStore(root)


@pytest.fixture
def store(trained, tmp_path) -> RunStore:
    """Copy the trained store, so that a test may change it."""
    shutil.copytree(trained.root, tmp_path / "runs")
    return RunStore(tmp_path / "runs")


@pytest.fixture
def explorer(store):
    shown = explore(store.root)
    yield shown
    shown.close()


@pytest.fixture
def begun(study, tmp_path):
    """Make a store in which one run of the study has started, without an epoch or a stage."""
    store = RunStore(tmp_path / "young")
    store.create()
    store.write_study("small", study.record())
    _, config = study.run_configs()[0]
    run = store.run(config)
    run.folder.mkdir()
    with run.hold() as writer:
        writer.start(config, "fingerprint")
    return store, run


def pictures(explorer) -> dict[str, str]:
    return {name: panel.value for name, panel in explorer.panels.items()}


def changed(before: dict[str, str], explorer) -> set[str]:
    return {name for name, picture in pictures(explorer).items() if picture != before[name]}


def values(choice) -> list:
    return [value for _, value in choice.options]


def pixels(picture: str) -> list[np.ndarray]:
    """Return the colours of the images in a picture, 0 to 1."""
    found = re.findall(r"base64,([^\"]+)", picture)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) / 255 for data in found]


def reach(run: Run, trained: RunStore, stage: int) -> None:
    """Let a run enter a stage like the trained run of the same name."""
    done = Run(trained.root / run.name)
    record = done.stages()[stage]
    with run.hold() as writer:
        writer.write_stage(record, done.stage_tensors(record))


def test_it_opens_on_the_base_at_the_end_of_training(explorer, study):
    assert explorer.variant.value == study.base.label == LEARNED
    assert (explorer.study.value, explorer.seed.value, explorer.stage.value) == ("small", 0, "end")
    assert values(explorer.stage) == ["0", "1", "2", "3", "end"]
    assert values(explorer.layer) == ["1.1", "1.2", "2.1", "3.1"]
    assert all(picture.count("<svg") == 1 for picture in pictures(explorer).values())


@pytest.mark.parametrize(
    ("choice", "value", "touched"),
    [
        ("variant", RANDOM, {"connections", "costs", "mask", "ranks", "curves"}),
        ("seed", 1, {"connections", "mask", "ranks", "curves"}),
        ("stage", "1", {"connections", "costs", "mask"}),
        ("layer", "1.2", {"mask", "ranks"}),
        ("group", 3, {"ranks"}),
        ("epoch", 1, {"ranks"}),
        ("study", ALL_RUNS, set()),  # the same run, found in another way
    ],
)
def test_a_choice_changes_the_pictures_that_it_should_and_no_other(explorer, choice, value, touched):
    before = pictures(explorer)
    getattr(explorer, choice).value = value
    assert changed(before, explorer) == touched


def test_a_choice_stays_while_others_change_and_comes_back_where_it_gave_way(explorer):
    explorer.stage.value, explorer.layer.value, explorer.seed.value = "1", "1.2", 1
    before = pictures(explorer)
    explorer.variant.value = RANDOM
    assert (explorer.stage.value, explorer.layer.value, explorer.seed.value) == ("end", "1.2", 1)
    explorer.variant.value = LEARNED
    assert (explorer.stage.value, explorer.layer.value, explorer.seed.value) == ("1", "1.2", 1)
    assert not changed(before, explorer)


@pytest.mark.parametrize("stage", ["0", "2", "end"])
def test_the_quick_pictures_show_what_the_figures_show(explorer, stage):
    explorer.stage.value, explorer.layer.value = stage, "2.1"
    figures, shown = explorer.figures(), pictures(explorer)
    image = figures["connections"].axes[0].images[0]
    np.testing.assert_allclose(
        pixels(shown["connections"])[0], image.cmap(image.norm(image.get_array())), atol=1 / 255
    )
    for ours, axes in zip(pixels(shown["mask"]), figures["mask"].axes, strict=False):
        image = axes.images[0]
        theirs = image.cmap(image.norm(image.get_array()))[:, :, :3]
        np.testing.assert_allclose(ours, theirs, atol=1 / 255)
    bars = re.findall(r"<title>.*?: ([\d,]+) MACs</title>", shown["costs"])
    theirs = [bar.get_height() for bar in figures["costs"].axes[0].patches if bar.get_height() > 0]
    assert sorted(int(bar.replace(",", "")) for bar in bars) == sorted(theirs)


@pytest.mark.parametrize("epoch", [0, 2, 4])
def test_the_lines_of_the_ranks_are_those_of_the_figure(explorer, epoch):
    explorer.layer.value, explorer.group.value, explorer.epoch.value = "2.1", 2, epoch
    ranks = frames.ranks(explorer.run, "2.1")
    ranks = ranks[(ranks.group == 2) & (ranks.epoch <= epoch)]
    lines = re.findall(r"<title>input (\d+) of \S+ rank (\d+) of (\d+) after", explorer.panels["ranks"].value)
    last = ranks.sort_values("epoch").groupby("channel").tail(1).set_index("channel")["rank"]
    assert {int(channel): int(rank) for channel, rank, _ in lines} == last.to_dict()
    figure = explorer.figures()["ranks"].axes[0]
    ends = [line.get_ydata()[-1] for line in figure.lines if line.get_marker() == "None"][:-1]
    assert sorted(ends) == sorted(last)


def test_the_mask_is_the_one_of_the_chosen_stage_and_layer(explorer):
    explorer.stage.value, explorer.layer.value = "2", "1.2"
    mask = explorer.run.stage_tensors(explorer.run.stages()[2])["mask.blocks.block1.1.conv1"].numpy()
    grey = np.isclose(pixels(explorer.panels["mask"].value)[0], 0xD9 / 255, atol=1 / 255).all(2)
    assert (~grey == mask).all()
    assert f"{mask.sum()} of {mask.size} connections are alive" in explorer.panels["mask"].value


def test_a_dense_run_has_no_masks_and_says_so(explorer):
    explorer.variant.value = DENSE
    for name in ("connections", "mask"):
        assert "there is no mask" in explorer.panels[name].value
    for name in ("costs", "curves"):
        assert "<svg" in explorer.panels[name].value
    assert set(explorer.figures()) == {"costs", "curves"}


def test_all_runs_of_the_store_are_there_whatever_their_study(store, study):
    _, config = study.run_configs()[0]
    longer = dataclasses.replace(config, recipe=dataclasses.replace(config.recipe, epochs=9))
    run = store.run(longer)
    run.folder.mkdir()
    with run.hold() as writer:
        writer.start(longer, "fingerprint")
    explorer = explore(store.root)
    explorer.study.value = ALL_RUNS
    names = values(explorer.variant)
    assert len(names) == 4
    assert sum(LEARNED in name for name in names) == 2
    explorer.variant.value = next(name for name in names if "9 epochs" in name)
    assert explorer.run == run
    explorer.close()


def test_a_run_in_training_is_followed(begun, trained):
    store, run = begun
    explorer = explore(store.root)
    assert explorer.run == run
    assert "running" in explorer.about.value
    assert "No stage has started yet" in explorer.panels["connections"].value
    assert "No epoch is done yet" in explorer.panels["curves"].value
    assert not explorer.poll()
    reach(run, trained, 0)
    assert explorer.poll()
    assert explorer.stage.value == "0"
    assert "<svg" in explorer.panels["connections"].value
    before = pictures(explorer)
    with run.hold() as writer:
        writer.append_epoch(Run(trained.root / run.name).epochs()[0], seconds=1)
    assert explorer.poll()
    assert changed(before, explorer) == {"curves"}
    assert "<svg" in explorer.panels["curves"].value
    reach(run, trained, 1)
    assert explorer.poll()
    assert explorer.stage.value == "1"  # the user did not choose another stage
    explorer.stage.value = "0"
    reach(run, trained, 2)
    assert explorer.poll()
    assert explorer.stage.value == "0"
    assert values(explorer.stage) == ["0", "1", "2"]
    assert not explorer.poll()
    explorer.close()


def test_runs_studies_and_states_appear_by_themselves(begun, study):
    store, run = begun
    explorer = explore(store.root)
    assert dict(explorer.seed.options) == {"0 (running)": 0, "1 (not started)": 1}
    with run.hold() as writer:
        writer.set_state("failed", "no memory")
    store.write_study("another", study.record())
    assert explorer.poll()
    assert dict(explorer.seed.options)["0 (failed)"] == 0
    assert "failed: no memory" in explorer.about.value
    assert values(explorer.study) == ["another", "small", ALL_RUNS]
    assert explorer.study.value == "small"
    explorer.close()


def test_a_run_that_diverged_shows_its_reason_and_what_there_is(begun, trained):
    store, run = begun
    reach(run, trained, 0)
    row = Run(trained.root / run.name).epochs()[0]
    losses = dict.fromkeys(
        ("train_loss", "train_error_percent", "curve_loss", "curve_error_percent"), float("nan")
    )
    with run.hold() as writer:
        writer.append_epoch(row | losses, seconds=1)
        writer.set_state("diverged", "loss is not finite")
    explorer = explore(store.root)
    assert "diverged: loss is not finite" in explorer.about.value
    assert all("<svg" in picture for picture in pictures(explorer).values())
    explorer.close()


def test_following_ends_with_the_checkbox_and_with_the_widget(begun, trained, monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    store, run = begun
    rows = Run(trained.root / run.name).epochs()

    async def seen(row, explorer, within: float) -> bool:
        before, end = pictures(explorer), time.monotonic() + within
        with run.hold() as writer:
            writer.append_epoch(row, seconds=1)
        while time.monotonic() < end and not changed(before, explorer):
            await asyncio.sleep(0.01)
        return bool(changed(before, explorer))

    async def follow() -> None:
        explorer = explore(store.root)
        assert await seen(rows[0], explorer, within=300)
        explorer.follow.value = False
        assert not await seen(rows[1], explorer, within=0.3)
        explorer.follow.value = True
        explorer.close()
        assert not await seen(rows[2], explorer, within=0.3)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(follow())


def test_a_missing_store_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"runs .*nowhere"):
        explore(tmp_path / "nowhere")


def test_an_empty_store_says_so_until_something_is_there(tmp_path, begun):
    store = RunStore(tmp_path / "<i>runs")
    store.create()
    explorer = explore(store.root)
    assert "There is no run in" in explorer.about.value
    assert "&lt;i&gt;" in explorer.about.value
    assert set(pictures(explorer).values()) == {""}
    assert explorer.figures() == {}
    shutil.copytree(begun[0].root, store.root, dirs_exist_ok=True)
    assert explorer.poll()
    assert begun[1].name in explorer.about.value
    explorer.close()


def test_a_study_with_nothing_begun_says_so(tmp_path, study):
    store = RunStore(tmp_path / "runs")
    store.create()
    store.write_study("small", study.record())
    explorer = explore(store.root)
    assert "has not started" in explorer.about.value
    assert "0 of 6 runs have started" in explorer.about.value
    assert "cannot be read" not in "".join(pictures(explorer).values())
    assert not explorer.poll()
    explorer.close()


def test_a_damaged_file_is_told_and_looked_at_again(explorer):
    path = explorer.run.folder / "stages" / "end.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    explorer.layer.value = "1.1"
    assert "its tensors should have" in explorer.panels["mask"].value
    path.write_bytes(whole)
    assert explorer.poll()
    assert "<svg" in explorer.panels["mask"].value


def test_hostile_names_are_escaped(begun, study):
    store, run = begun
    record = study.record()
    record["variants"][0]["label"] = record["question"] = EVIL
    store.write_study("small", record)
    with run.hold() as writer:
        writer.set_state("failed", EVIL)
    explorer = explore(store.root)
    assert explorer.variant.value == EVIL
    shown = explorer.about.value + "".join(pictures(explorer).values())
    named = Study.named("grouping", name=EVIL, stages=(1, 1), match="width", device="cpu")
    for text in (shown, run._repr_html_(), named._repr_html_()):
        assert "<script" not in text
        assert "&lt;script&gt;" in text
    explorer.close()


def test_a_run_shows_itself_with_its_figures(trained):
    run = trained.runs()[0]
    text = run._repr_html_()
    result, record = run.result, run.stages()[-1]
    for shown in (run.name, "done", "4 of 4", "0, 1, 2, 3, end", f"{record['macs']:,} MACs", "epochs 4"):
        assert shown in text
    assert f"{result['test_error_percent']:.2f} % of {result['test_images']} test images" in text
    assert "has not started" in Run(trained.root / "nothing")._repr_html_()


def test_a_study_shows_itself_with_its_variants(study):
    text = study._repr_html_()
    for shown in ("small", "What do learned groups", "digits", "4 epochs", "2 seeds", "6 runs"):
        assert shown in text
    for variant in study.variants:
        cost = cost_table(variant.model)
        row = next(row for row in text.split("<tr>") if variant.label in row)
        assert variant.role in row
        assert f"{cost.macs:,}" in row
        assert f"{cost.params:,}" in row
    assert f"{100 * (cost.macs / cost_table(study.base.model).macs - 1):+.1f} %" in row


def test_the_frames_of_the_layers_are_those_that_the_costs_are_drawn_from(explorer):
    layers = frames.layers(explorer.run)
    left = layers[layers.stage == "end"].macs.sum()
    assert f"{plots.count(left)} MACs, layer by layer" in explorer.panels["costs"].value
