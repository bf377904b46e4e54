"""A small study: from its runs to frames, figures, tables and the report."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import html
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from helpers.runs import SMALL_STUDY

from analysis import frames, plots, stats
from analysis.ablate import ablate
from analysis.frames import reading_layers
from analysis.report import report
from analysis.reporting import StudyReport, connection_maps, render, study_report, write_report
from analysis.reporting.comparison import Comparison
from analysis.reporting.connection_maps import connection_map, rank_lines
from analysis.reporting.tables import _exact, frame_table
from analysis.studies import StudyConfig, plan, study_config
from condense_core import CondenseNet, cost_table
from condense_core.grouping import MaskedConv
from condense_core.store import RunStore
from condense_core.validation import from_dict


@pytest.fixture(scope="module")
def study(small_study):
    return small_study


@pytest.fixture(scope="module")
def store(small_store) -> RunStore:
    return small_store


@pytest.fixture(scope="module")
def runs(store) -> pd.DataFrame:
    return frames.study_runs(store, "small")


@pytest.fixture(scope="module")
def page(store, tmp_path_factory) -> Path:
    return write_report(StudyReport(store, "small"), tmp_path_factory.mktemp("reports"))


def learned_run(store, runs):
    return store.run(next(run.config for run in store.runs() if run.name == runs.run.iloc[0]))


def test_a_study_from_python_gives_a_row_a_run(study, runs):
    assert len(runs) == len(study.run_configs()) == 34
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
    from helpers.runs import small_model

    config = small_model(connectivity=connectivity)
    layers = {name: m for name, m in CondenseNet(config, 0).named_modules() if isinstance(m, MaskedConv)}
    reading = list(reading_layers(config))
    assert [target.module for target in reading] == list(layers)
    for target in reading:
        layer = layers[target.module]
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


class Page(HTMLParser):
    """The cells of a page by table, and all URLs that a browser would fetch."""

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
    table = next(table for table in Page(page.read_text()).tables if "test error %" in table[0])
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


def test_the_report_fetches_nothing_and_lets_nothing_else_run(page):
    text = page.read_text()
    found = Page(text)
    assert found.fetched
    assert all(url.startswith(("data:image/svg+xml,", "#")) for url in found.fetched)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    for name, tag in (("style-src", "style"), ("script-src", "script")):
        own = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert not re.search(r"\beval\(|new Function|innerHTML|@import|url\(http", text)
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
    shown = {
        unquote(url.partition(",")[2]) for url in Page(page.read_text()).fetched if url.startswith("data:")
    }
    files = [path.read_text() for path in page.parent.glob("*.svg")]
    for svg in shown:
        ElementTree.fromstring(svg)
    assert shown == set(files)
    assert len(shown) == 16


def test_every_figure_has_alternative_text_and_its_data(page):
    text = page.read_text()
    alternatives = re.findall(r'<img src="[^"]*" alt="([^"]+)"', text)
    assert len(alternatives) == 16
    assert text.count("Data of “") == 16


def test_the_table_of_contents_names_every_part_and_figure(page):
    text = page.read_text()
    headings = re.findall(r'<h[23][^>]* id="([^"]+)">', text)
    contents = re.search(r'<nav aria-label="Contents">(.*?)</nav>', text, re.DOTALL)[1]
    assert re.findall(r'href="#([^"]+)"', contents) == headings
    assert len(headings) == len(set(headings)) > 20
    assert not re.search(r"<h[23]>", text)


def test_several_studies_share_a_report_and_two_can_be_compared(store, tmp_path, monkeypatch):
    monkeypatch.setattr(study_report, "report_figures", lambda *_: [])  # other tests check them
    shutil.copytree(store.root, tmp_path / "runs")
    both = RunStore(tmp_path / "runs")
    record = both.read_study("small")
    part = [variant for variant in record["variants"] if variant["role"] in ("base", "grid")][:3]
    both.write_study(
        "part", record | {"name": "part", "variants": part, "settings": record["settings"] | {"epochs": 5}}
    )
    chapters = [StudyReport(both, "small"), StudyReport(both, "part")]
    text = render(chapters)
    assert text.index('id="study-0"') < text.index('id="study-1"')
    comparison = Comparison(*chapters)
    assert [row[0].text for row in comparison.settings.rows] == ["epochs"]
    assert comparison.compared.difference.abs().max() < 1e-9
    assert comparison.compared.pairs.tolist() == [6, 2, 2, 2]
    assert comparison.sentence.startswith("part against small, over 3 common variants: ")
    assert "+0.00 points" in comparison.sentence
    assert {row[0].text for row in comparison.variants.rows} == set(chapters[0].summary.variant)
    assert "Side by side" in render(chapters, compare=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "studies: name one or more"),
        (["small", "--compare", "small", "small"], "studies: name one or more"),
        (["smal"], "study 'smal': not in"),
        (["small", "--out", "."], "is a folder"),
        (["small", "--meaningful", "0"], "meaningful 0: must be more than 0 points and at most 100"),
        (["small", "--meaningful", "-1"], "meaningful -1: must be more than 0 points"),
        (["small", "--meaningful", "nan"], "meaningful nan: must be more than 0 points"),
    ],
)
def test_bad_arguments_are_told_before_any_work(store, arguments, message):
    result = CliRunner().invoke(report, [*arguments, "--runs", str(store.root)])
    assert result.exit_code == 2
    assert message in result.output


def test_the_command_of_a_study_asks_for_it_again(store, small_study):
    text = StudyReport(store, "small").command
    context = ablate.make_context("ablate", shlex.split(text)[3:])
    given = {name: value for name, value in context.params.items() if name in vars(small_study.config)}
    assert study_config(**given) == small_study.config


def test_a_study_stored_before_a_setting_was_there_is_read_as_what_it_was(store, small_study):
    record = store.read_study("small")["settings"]
    older = {name: value for name, value in record.items() if name not in ("execution", "precision")}
    config = from_dict(StudyConfig, older)
    assert (config.execution, config.precision) == ("reference", "float32")
    assert config == dataclasses.replace(small_study.config, execution="reference")


def test_packed_maps_hold_every_connection_of_every_stage(store, runs):
    run = learned_run(store, runs)
    packed = connection_map(run)
    died = np.frombuffer(zlib.decompress(base64.b64decode(packed["died"])), np.uint8)
    weights = np.frombuffer(zlib.decompress(base64.b64decode(packed["weights"])), "<f4")
    connections = frames.connections(run)
    assert weights.tolist() == pytest.approx(connections.mean_weight.tolist())
    at = 0
    for target in packed["targets"]:
        inputs = target["sources"][-1][2]
        own = died[at : at + target["groups"] * inputs].reshape(target["groups"], inputs)
        at += own.size
        for name, first, last in target["sources"]:
            rows = connections[(connections.target == target["label"]) & (connections.source == name)]
            for stage, alive in zip(rows.stage, rows.alive, strict=True):
                lives = own == 255 if stage == "end" else own > int(stage)
                assert lives[:, first:last].mean() == pytest.approx(alive)
    assert at == died.size


def unpacked_ranks(packed: dict) -> dict[str, np.ndarray]:
    """Return the ranks that a page has of each layer: (moments, groups, inputs)."""
    low, high = np.frombuffer(zlib.decompress(base64.b64decode(packed["ranks"])), np.uint8).reshape(2, -1)
    changes, found = low + 256 * high.astype(np.uint16), {}
    for target in packed["targets"]:
        shape = (len(packed["epochs"]), target["groups"], target["sources"][-1][2])
        own, changes = np.split(changes, [math.prod(shape)])
        found[target["label"]] = own.reshape(shape).cumsum(0, dtype=np.uint16)
    assert not len(changes)
    return found


@pytest.mark.parametrize("room", [10**6, 300])
def test_packed_ranks_are_those_of_the_run_at_as_many_moments_as_there_is_room_for(
    store, runs, monkeypatch, room
):
    run = learned_run(store, runs)
    monkeypatch.setattr(connection_maps, "MOST_RANKS", room)
    packed = rank_lines(run)
    ours, theirs = unpacked_ranks(packed), {one.layer.label: one for one in frames.layer_ranks(run)}
    assert set(ours) == (set(theirs) if room > 300 else {"1.2"})
    for label, ranks in ours.items():
        at = [theirs[label].epochs.index(epoch) for epoch in packed["epochs"]]
        assert (ranks == theirs[label].rank[at]).all()
    starts = [record["epoch"] for record in run.stages()]
    assert set(starts) <= set(packed["epochs"])
    margins = np.frombuffer(zlib.decompress(base64.b64decode(packed["margins"])), "<i2")
    channels = frames.channels(run).query("target in @ours")
    assert np.allclose(margins, 1000 * channels.margin, atol=0.5)


def test_a_report_stands_without_the_base(store, runs, tmp_path, undrawn):
    shutil.copytree(store.root, tmp_path / "runs")
    for name in runs[runs.role == "base"].run:
        shutil.rmtree(tmp_path / "runs" / name)
    text = write_report(StudyReport(RunStore(tmp_path / "runs"), "small"), tmp_path / "reports").read_text()
    assert "random-exponential-full-k4" in text


def test_text_from_settings_and_errors_is_escaped(store, tmp_path, undrawn):
    shutil.copytree(store.root, tmp_path / "runs")
    copy = RunStore(tmp_path / "runs")
    evil = "</script><img src=x onerror=alert(1)>"
    record = copy.read_study("small")
    record["question"] = record["settings"]["data"] = evil
    copy.write_study("small", record)
    with copy.runs()[0].hold() as writer:
        writer.set_state("failed", evil)
    text = write_report(StudyReport(copy, "small"), tmp_path / "reports").read_text()
    assert "<img src=x" not in text
    assert text.count("</script>") == 3
    assert text.count("&lt;/script&gt;&lt;img src=x") >= 3


def test_a_study_without_a_finished_run_has_a_report_that_says_so(store, tmp_path):
    shutil.copytree(store.root, tmp_path / "runs")
    copy = RunStore(tmp_path / "runs")
    for run in copy.runs():
        with run.hold() as writer:
            writer.set_state("running")
    assert "No run is done yet." in write_report(StudyReport(copy, "small"), tmp_path / "reports").read_text()
    for run in copy.runs():
        shutil.rmtree(run.folder)
    assert "No run is done yet." in write_report(StudyReport(copy, "small"), tmp_path / "reports").read_text()


WITHOUT_TORCH = """
import sys
from pathlib import Path
from analysis import Study
from analysis.studies.estimate import plan
from analysis.report import report
from condense_core.store import RunStore
store = RunStore(Path(sys.argv[1]))
assert {row["state"] for row in plan(Study.named("ablation", **eval(sys.argv[2])), store)} == {"done"}
report(["small", "--runs", sys.argv[1], "--out", sys.argv[3]], standalone_mode=False)
assert not {"torch", "numba"} & set(sys.modules)
"""


def test_what_is_done_is_listed_and_reported_without_torch_the_same_bytes_for_the_same_store(
    store, page, tmp_path
):
    out = tmp_path / "some" / "report.html"
    arguments = [str(store.root), repr(SMALL_STUDY), str(out)]
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *arguments], check=True)
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    assert out.read_bytes() == page.read_bytes()


def test_a_variant_with_finished_runs_takes_what_they_took(study, store):
    for row in plan(study, store):
        runs = [store.run(config) for variant, config in study.run_configs() if variant.label == row["variant"]]
        assert row["estimated_seconds"] == pytest.approx(np.mean([run.seconds() for run in runs]))
        assert row["remaining_seconds"] == 0


def test_of_very_many_runs_all_are_listed_and_what_is_not_done_is_viewed_first(
    store, runs, tmp_path, monkeypatch
):
    shutil.copytree(store.root, tmp_path / "runs")
    copy = RunStore(tmp_path / "runs")
    failed = copy.runs()[-1]
    with failed.hold() as writer:
        writer.set_state("failed", "no reason")
    monkeypatch.setattr(study_report, "MAX_VIEWS", 10)
    monkeypatch.setattr(study_report, "report_figures", lambda *_: [])  # other tests check them
    text = render([StudyReport(copy, "small")])
    viewed = re.findall(r'<details class="run" id="study-0-([^"]+)"', text)
    assert len(viewed) == 10
    assert failed.name in viewed
    assert {name.rsplit("-", 2)[1] for name in viewed if name != failed.name} == {"s0"}
    table = next(
        table for table in Page(text).tables if table[0] == ["run", "state", "test error %", "seconds"]
    )
    errors = {row[0]: row[2] for row in table[1:]}
    assert errors == {row.run: f"{row.test_error_percent:.2f}" for row in runs.itertuples()}


def test_masks_at_the_end_are_those_of_the_last_weights(store, runs):
    run = learned_run(store, runs)
    weights, tensors = run.weights(), run.stage_tensors(run.stages()[-1])
    for name, mask in tensors.items():
        if name.startswith("mask."):
            assert torch.equal(weights[f"{name.removeprefix('mask.')}.mask"], mask)


@pytest.mark.parametrize("state", ["running", "stopped", "diverged"])
def test_a_report_stands_while_a_run_is_in_its_first_stage(store, tmp_path, state):
    shutil.copytree(store.root, tmp_path / "runs")
    copy = RunStore(tmp_path / "runs")
    record = copy.read_study("small")
    copy.write_study("begun", record | {"name": "begun", "variants": record["variants"][4:5]})
    for run in StudyReport(copy, "begun").started:
        with run.hold() as writer:
            writer.set_state(state)
            writer.drop_epochs_after(1)
        (run.folder / "stages" / "end.json").unlink()
        (run.folder / "result.json").unlink()
    text = render([StudyReport(copy, "begun")])
    assert f"({state}" in text
    assert "No run is done yet." in text


def test_figures_of_one_run_refuse_a_mixture_of_several(store):
    for draw, frame in ((plots.pruned_connections, frames.connections), (plots.cost_by_layer, frames.layers)):
        with pytest.raises(ValueError, match="34 runs"):
            draw(frame(store).assign(run=[str(i % 34) for i in range(len(frame(store)))]))
    with pytest.raises(ValueError, match="cost 'flops'"):
        plots.tradeoff(pd.DataFrame({"error_mean": [1.0], "n": [1]}), "flops")
    with pytest.raises(ValueError, match=r"frames\.study_runs"):
        stats.summary(frames.runs(store))


def test_page_and_json_audit_the_evidence_alike(store, page, tmp_path):
    out = ["--out", str(tmp_path / "page.html"), "--json"]
    answered = CliRunner().invoke(report, ["small", "--runs", str(store.root), *out])
    (found,) = json.loads(answered.stdout)["studies"]
    text = html.unescape(page.read_text())
    assert found["study"] == "small"
    assert len(found["audit"]) == 16
    assert all(part in text for answer in found["audit"] for part in answer.values())
    assert all(sentence in text for sentence in found["findings"])


@pytest.mark.parametrize("value", [0.3, 1 / 3, 1234567.891, -2e-9, 40.52, 12345.5])
def test_the_last_digits_in_which_processors_differ_are_not_shown(value):
    other = math.nextafter(value, math.inf)
    assert other != value
    assert frame_table("x", pd.DataFrame({"a": [value]})) == frame_table("x", pd.DataFrame({"a": [other]}))
    assert _exact(value) == _exact(other)


def test_frames_and_report_agree_to_the_digit(store, runs, page):
    answers, text = frames.answers(store), html.unescape(page.read_text())
    effects, summary = stats.effects(runs, answers), stats.summary(runs, answers)
    for name, frame in {"effects": effects, "summary": summary}.items():
        saved = pd.read_parquet(page.parent / f"{name}.parquet")
        pd.testing.assert_frame_equal(saved, frames.typed(name, frame), check_exact=True)
    for row in effects.itertuples():
        assert f"{row.difference:+z.2f} points ({row.low:+z.2f} to {row.high:+z.2f};" in text
