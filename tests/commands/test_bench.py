"""`python -m analysis.bench`: times measured in turns, saved in the store, shown by part."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from helpers.networks import lived_in
from helpers.runs import small_model
from hypothesis import given, strategies as st

from analysis import frames, plots
from analysis.bench import bench
from analysis.frames import COLUMNS
from analysis.reporting import run_figures
from analysis.timing import EXECUTIONS
from analysis.timing.latency import median_of, memory_of, take_turns, ties
from analysis.timing.runtimes import build, prepare, subject
from analysis.timing.waterfall import waterfall
from condense_core import CondenseNet, cost_table
from condense_core.store import RunStore


@given(st.lists(st.floats(0.1, 1e3), min_size=6, max_size=60))
def test_an_interval_holds_the_median_and_lies_within_the_values(values):
    found = median_of(np.array(values))
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    assert found.median == np.median(values)


def test_the_interval_of_a_median_holds_the_true_one_about_as_often_as_it_says():
    draws = np.random.default_rng(0)
    held = [(found := median_of(draws.exponential(size=15))).low <= np.log(2) <= found.high for _ in range(400)]
    assert 0.93 <= np.mean(held) <= 0.995


def test_calls_take_turns_and_warm_up(monkeypatch):
    monkeypatch.setattr("analysis.timing.latency.WARM_UP", 0)
    calls: list[str] = []
    times = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "a", "b", "b"] * 3
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


def test_only_what_the_rounds_cannot_tell_apart_is_a_tie():
    draws = np.random.default_rng(0)
    common = draws.uniform(1, 3, 20)  # a shared machine: rounds differ, their ratios do not
    times = {"slow": 1.5 * common, "fast": common, "as fast": common * draws.uniform(0.9, 1.1, 20)}
    assert [{tie.first, tie.second} for tie in ties(times)] == [{"fast", "as fast"}]


def test_memory_is_what_a_call_takes():
    kept = []

    def make():
        return lambda: kept.append(torch.ones(8_000_000))

    _, taken = memory_of(make)
    if taken is None:
        pytest.skip("the system does not tell")
    assert 25e6 <= taken <= 60e6


@pytest.fixture(scope="module")
def small():
    return subject("small", lived_in(small_model()).eval(), 8)


@pytest.mark.parametrize("name", [name for name in EXECUTIONS if name != "torch.compile"])
def test_every_execution_gives_the_networks_logits(small, name, tmp_path):
    execution = EXECUTIONS[name]
    if not execution.is_installed:
        pytest.skip(f"needs {', '.join(execution.needs)}")
    prepare(execution, small, tmp_path)
    found = build(execution, small, 3, tmp_path)()
    logits = found if isinstance(found, torch.Tensor) else torch.as_tensor(np.asarray(found))
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = small.dense(images)
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_the_dense_network_computes_what_the_condensed_one_skips(small):
    assert small.macs == cost_table(small.condensed).macs
    assert small.dense_macs == cost_table(CondenseNet(small_model(), 0)).macs > small.macs


def test_a_waterfall_says_where_the_time_of_every_layer_goes(small):
    found = waterfall(small, torch.randn(2, 3, 8, 8), 1)
    whole = found.groupby("execution").milliseconds.sum()
    assert whole["if time followed MACs"] < whole["dense"]
    assert (found.milliseconds >= 0).all()
    layers = {f"blocks.block{b}.{i}" for b, i in ((1, 0), (2, 0), (2, 1), (3, 0))}
    for execution, parts in (
        ("dense", {"normalisation", "1×1", "3×3", "concatenation"}),
        ("condensed torch", {"normalisation", "1×1", "3×3", "concatenation", "gather", "shuffle"}),
        ("condensed fast", {"layer in one call"}),
    ):
        own = found[(found.execution == execution) & found.layer.isin(layers)]
        assert set(own.layer) == layers
        assert set(own.part) == parts
    computed = found[found.part.isin(["1×1", "3×3", "layer in one call"])]
    assert computed.gflops.gt(0).all()
    assert found[~found.index.isin(computed.index)].gflops.isna().all()


def call(store, *arguments):
    return CliRunner().invoke(bench, [*map(str, arguments), "--runs", str(store)], standalone_mode=False)


def test_times_are_printed_and_kept_where_frames_and_figures_find_them(small_store, tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.timing.latency.PAUSE", 0)
    monkeypatch.setattr("analysis.timing.latency.WARM_UP", 0)
    shutil.copytree(small_store.root, tmp_path / "runs")
    run = small_store.runs()[0].name
    result = call(
        tmp_path / "runs", run, "--batch", "1,2", "--repeats", 6, "--per-layer",
        "--execution", "torch", "--execution", "condensed fast", "--threads", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert run in result.output
    times, parts = frames.times(tmp_path / "runs"), frames.parts(tmp_path / "runs")
    assert list(times.columns) == list(COLUMNS["times"])
    assert list(parts.columns) == list(COLUMNS["parts"])
    assert list(zip(times.execution, times.batch, strict=True)) == [
        (execution, batch) for batch in (1, 2) for execution in ("torch", "condensed fast")
    ]
    assert (times.low <= times.milliseconds).all()
    assert (times.milliseconds <= times.high).all()
    assert (times.threads == 1).all()
    assert set(parts.execution) == {"dense", "if time followed MACs", "condensed torch", "condensed fast"}
    figures = {picture.key: picture for picture in run_figures.times(RunStore(tmp_path / "runs"))}
    assert set(figures) == {"time", "waterfall"}
    assert set(figures["time"].data.batch) == {1}
    assert run in figures["time"].alt
    assert "if time followed MACs" in figures["waterfall"].alt
    bars = plots.waterfall(parts).axes[0]
    assert [text.get_text() for text in bars.get_yticklabels()] == list(dict.fromkeys(parts.execution))
    with pytest.raises(ValueError, match="one network"):
        plots.waterfall(pd.concat([parts, parts.assign(model="other")]))
    again = call(tmp_path / "runs", run, "--execution", "torch", "--repeats", 6, "--json")
    record = json.loads(again.stdout)
    assert [row["model"] for row in record["times"]] == [run]
    assert len(frames.times(tmp_path / "runs")) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name: missing"),
        (["condensnet-86"], "did you mean 'condensenet-86'"),
        (["condensenet-86", "--batch", "1,x"], "batch '1,x': must be whole numbers"),
        (["condensenet-86", "--batch", "0"], "batch '0'"),
        (["condensenet-86", "--execution", "tourch"], "did you mean 'torch'"),
    ],
)
def test_a_bad_request_is_one_line_before_any_work(tmp_path, arguments, message):
    result = call(tmp_path / "runs", *arguments)
    assert message in str(result.exception)
    assert not (tmp_path / "runs").exists()
