"""A small study from its runs to frames, figures, tables and the report."""

from __future__ import annotations

import base64
import csv
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from analysis import frames, plots, stats
from analysis.report import pruning_steps, write_report
from analysis.study import Study
from condense_core import CondenseNet, cost_table
from condense_core.grouping import MaskedConv1x1
from condense_core.runs import RunStore

SETTINGS = {
    "name": "small",
    "device": "cpu",
    "stages": (2, 1, 1),
    "growth": ("exponential",),
    "sizes": (2,),
    "seeds": 2,
    "epochs": 4,
    "train_images": 128,
    "match": "width",
}


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.named("ablation", **SETTINGS)


@pytest.fixture(scope="module")
def store(study, tmp_path_factory) -> RunStore:
    root = tmp_path_factory.mktemp("study") / "runs"
    study.run(root, jobs=1)
    return RunStore(root)


@pytest.fixture(scope="module")
def runs(store) -> pd.DataFrame:
    return frames.study_runs(store, "small")


@pytest.fixture(scope="module")
def page(store, tmp_path_factory) -> Path:
    return write_report(store, "small", tmp_path_factory.mktemp("reports"))


def learned_run(store, runs):
    return store.run(next(run.config for run in store.runs() if run.name == runs.run.iloc[0]))


def test_a_study_from_python_gives_a_row_a_run(study, runs):
    assert len(runs) == len(study.run_configs()) == 22
    assert set(runs.state) == {"done"}
    assert runs.test_error_percent.between(0, 100).all()


def test_the_frames_hold_what_the_store_holds(store, runs):
    for row in runs.itertuples():
        run = next(run for run in store.runs() if run.name == row.run)
        assert row.test_error_percent == run.result["test_error_percent"]
        assert row.macs == cost_table(run.config.model).macs
        assert len(frames.epochs([run])) == 4
    assert len(frames.runs(store)) == len(runs)


@pytest.mark.parametrize("connectivity", ["full", "block"])
def test_sources_name_every_input_of_every_1x1(connectivity):
    from conftest import small_model

    config = small_model(connectivity=connectivity)
    layers = {name: m for name, m in CondenseNet(config, 0).named_modules() if isinstance(m, MaskedConv1x1)}
    targets = list(frames.targets(config))
    assert [target.mask for target in targets] == list(layers)
    for target in targets:
        layer = layers[target.mask]
        assert target.outputs == layer.out_channels
        assert target.sources[0][1] == 0
        assert target.sources[-1][2] == layer.in_channels
        ends = [
            (before[2], after[1]) for before, after in zip(target.sources, target.sources[1:], strict=False)
        ]
        assert all(end == first for end, first in ends)


def test_connections_are_shares_of_the_masks(store, runs):
    run = learned_run(store, runs)
    connections = frames.connections([run])
    record = run.stages()[2]
    tensors = run.stage_tensors(record)
    part = connections[(connections.stage == "2") & (connections.target == "1.2")]
    assert part.source.tolist() == ["stem", "1.1"]
    mask = tensors["mask.blocks.block1.1.conv1"].float()
    assert part.alive.tolist() == pytest.approx([mask[:, :8].mean().item(), mask[:, 8:12].mean().item()])
    assert (connections[connections.stage == "0"].alive == 1).all()
    weight = run.weights()["blocks.block1.1.conv1.weight"].abs()[:, 8:12].mean().item()
    end = connections[
        (connections.stage == "end") & (connections.target == "1.2") & (connections.source == "1.1")
    ]
    assert end.mean_weight.item() == pytest.approx(weight, rel=1e-5)


def test_figures_come_from_frames_alone(store, runs):
    summary, run = stats.summary(runs), learned_run(store, runs)
    stages = frames.stages([run]).assign(variant="learned", grouping="learned")
    connections = frames.connections([run])
    for figure in (
        plots.tradeoff(summary),
        plots.tradeoff(summary, "params"),
        plots.equal_cost(summary),
        plots.pruned_connections(connections),
        plots.pruned_connections(connections, "mean_weight"),
        plots.macs_during_training(stages),
    ):
        assert isinstance(figure, Figure)


def test_the_heat_map_shows_the_frame(store, runs):
    connections = frames.connections([learned_run(store, runs)])
    panels = [axes for axes in plots.pruned_connections(connections).axes if axes.images]
    assert [axes.get_title() for axes in panels] == ["stage 0", "stage 1", "stage 2", "stage 3", "at the end"]
    shown = panels[2].images[0].get_array()
    part = connections[(connections.stage == "2") & (connections.target == "2.1")]
    column = shown[:, 2].compressed()  # targets 1.1, 1.2, 2.1
    assert column.tolist() == pytest.approx(part.alive.tolist())


class Page(HTMLParser):
    """Cells of a page by table, and everything that a browser would fetch."""

    def __init__(self, text: str):
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.fetched: list[str] = []
        self.cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.fetched += [values[name] for name in ("src", "href", "data", "action") if values.get(name)]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = []

    def handle_data(self, data):
        if self.cell is not None:
            self.cell.append(data)

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append("".join(self.cell))
            self.cell = None


def test_the_reports_numbers_are_the_stores(page, runs):
    table = Page(page.read_text()).tables[0]
    rows = {row[0]: dict(zip(table[0], row, strict=True)) for row in table[1:]}
    for variant, part in runs.groupby("variant"):
        row = rows[variant]
        errors = part.test_error_percent
        assert row["test error %"] == f"{errors.mean():.2f} ± {errors.std():.2f}"
        assert row["MACs"] == plots.count(part.macs.iloc[0])
        assert row["training MACs"] == plots.count(part.training_macs.iloc[0])
        assert row["n"] == "2/2"
    base = runs[runs.role == "base"].set_index("seed").test_error_percent
    for variant, part in runs[runs.role == "grid"].groupby("variant"):
        paired = part.set_index("seed").test_error_percent - base
        assert float(rows[variant]["difference"]) == pytest.approx(paired.mean(), abs=0.006)


def test_the_report_fetches_nothing(page):
    text = page.read_text()
    found = Page(text)
    assert found.fetched
    assert all(url.startswith("data:image/svg+xml;base64,") for url in found.fetched)
    assert "default-src 'none'" in text
    assert not re.search(r"<script|url\(|@import", text)
    assert page.stat().st_size < 1_000_000


def test_the_tables_stand_beside_the_report_as_csv_and_parquet(page, runs):
    for name in ("runs", "summary", "effects"):
        with (page.parent / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        frame = pd.read_parquet(page.parent / f"{name}.parquet")
        assert len(rows) == len(frame)
        assert list(rows[0]) == list(frame.columns)
    assert [float(row["error_mean"]) for row in csv.DictReader((page.parent / "summary.csv").open())] == (
        pytest.approx(stats.summary(runs).error_mean.tolist())
    )


def test_every_figure_of_the_report_is_a_file_of_its_own(page):
    encoded = [url.partition("base64,")[2] for url in Page(page.read_text()).fetched]
    files = {base64.b64encode(path.read_bytes()).decode() for path in page.parent.glob("*.svg")}
    assert len(files) == len(encoded) == 4
    assert files == set(encoded)


def test_every_pruning_step_is_told_with_its_drop_and_recovery(store, runs):
    run = learned_run(store, runs)
    steps = pruning_steps(run)
    assert [step["stage"] for step in steps] == ["1", "2", "3"]
    records = run.stages()
    assert [step["before"] for step in steps] == [record["before"]["error_percent"] for record in records[1:4]]
    errors = [row["curve_error_percent"] for row in run.epochs()]
    assert steps[-1]["recovered"] == min(errors[2:])


def test_a_report_stands_without_the_base(store, runs, tmp_path):
    shutil.copytree(store.root, tmp_path / "runs")
    for name in runs[runs.role == "base"].run:
        shutil.rmtree(tmp_path / "runs" / name)
    text = write_report(RunStore(tmp_path / "runs"), "small", tmp_path / "reports").read_text()
    assert "random-exponential-full-k4" in text


def test_text_from_settings_and_errors_is_escaped(store, tmp_path):
    shutil.copytree(store.root, tmp_path / "runs")
    copy = RunStore(tmp_path / "runs")
    evil = "<script>alert('x')</script>"
    record = copy.read_study("small")
    record["question"] = record["settings"]["data"] = evil
    copy.write_study("small", record)
    copy.runs()[0].set_state("failed", evil)
    text = write_report(copy, "small", tmp_path / "reports").read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 3


def test_a_study_without_a_finished_run_has_a_report_that_says_so(store, tmp_path):
    shutil.copytree(store.root, tmp_path / "runs")
    copy = RunStore(tmp_path / "runs")
    for run in copy.runs():
        run.set_state("running")
    assert "No run is done yet." in write_report(copy, "small", tmp_path / "reports").read_text()
    for run in copy.runs():
        shutil.rmtree(run.folder)
    assert "No run is done yet." in write_report(copy, "small", tmp_path / "reports").read_text()


def test_masks_at_the_end_are_those_of_the_last_weights(store, runs):
    run = learned_run(store, runs)
    weights, tensors = run.weights(), run.stage_tensors(run.stages()[-1])
    for name, mask in tensors.items():
        if name.startswith("mask."):
            assert torch.equal(weights[f"{name.removeprefix('mask.')}.mask"], mask)
