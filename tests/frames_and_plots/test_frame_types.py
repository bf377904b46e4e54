"""A column has one type in every frame of its name: full, empty, with failed runs, read from a file."""

from __future__ import annotations

import io
import shutil
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.runs import BENCHMARK

from analysis import frames, stats
from analysis.reporting import StudyReport, write_report
from condense_core.store import RunStore

OF_RUNS = ("runs", "epochs", "outcomes", "stages", "steps", "connections", "channels", "agreement")
OF_RUNS += ("decided", "ranks", "regret", "layers", "factors")


def of_kind(name: str, source: Any) -> pd.DataFrame:
    """Return a frame by its name; summaries and effects in their types, as a report writes them."""
    if name in ("summary", "effects"):
        return frames.typed(name, getattr(stats, name)(frames.study_runs(source, "small")))
    return frames.study_runs(source, "small") if name == "study_runs" else getattr(frames, name)(source)


@pytest.fixture(scope="module")
def stores(small_store, tmp_path_factory) -> dict[str, RunStore]:
    """Return a store with finished runs, one where a run failed and one is unfinished, and one with nothing."""
    failed = RunStore(tmp_path_factory.mktemp("failed") / "runs")
    shutil.copytree(small_store.root, failed.root)
    first, second = failed.runs()[:2]
    (first.folder / "result.json").unlink()
    (first.folder / "status.json").write_text('{"state": "failed", "reason": "no room", "time": 1.0}')
    (second.folder / "result.json").unlink()
    (second.folder / "status.json").write_text('{"state": "running", "reason": null, "time": 1.0}')
    nothing = RunStore(tmp_path_factory.mktemp("nothing") / "runs")
    nothing.create()
    nothing.write_study("small", small_store.read_study("small"))
    for store in (failed, nothing):
        store.write_benchmark(
            BENCHMARK | {"times": [BENCHMARK["times"][0] | {"peak_memory": None}], "parts": []}
        )
    return {"done": small_store, "failed": failed, "nothing": nothing}


@pytest.mark.parametrize("name", [*OF_RUNS, "study_runs", "summary", "effects", "times", "parts"])
def test_frames_of_all_stores_have_the_same_columns_of_the_same_types(stores, name):
    found = {kind: of_kind(name, store) for kind, store in stores.items()}
    schemas = [pa.Table.from_pandas(frame, preserve_index=False).schema for frame in found.values()]
    for frame, schema in zip(found.values(), schemas, strict=True):
        assert list(frame.columns) == list(frames.COLUMNS[name])
        assert frame.dtypes.map(str).to_dict() == frames.TYPES[name]
        assert schema.remove_metadata() == schemas[0].remove_metadata()
    tables = [pa.Table.from_pandas(frame, preserve_index=False) for frame in found.values()]
    assert len(pa.concat_tables(tables)) == sum(map(len, found.values()))
    joined = pd.concat(found.values(), ignore_index=True)
    assert joined.dtypes.map(str).to_dict() == frames.TYPES[name]


@pytest.mark.parametrize("name", [*OF_RUNS, "study_runs", "summary", "effects", "times"])
def test_a_frame_comes_back_from_csv_as_it_was(stores, name):
    for store in stores.values():
        frame = of_kind(name, store)
        text = frame.to_csv(index=False)
        again = pd.read_csv(io.StringIO(text), dtype=frames.TYPES[name])
        pd.testing.assert_frame_equal(again, frame, check_exact=False)


def test_the_tables_of_reports_can_be_joined(stores, tmp_path):
    pages = [write_report(StudyReport(stores[kind], "small"), tmp_path / kind) for kind in ("done", "failed")]
    for table in ("runs", "summary", "effects"):
        read = [pq.read_table(page.parent / f"{table}.parquet") for page in pages]
        joined = pa.concat_tables(read)
        assert len(joined) == sum(map(len, read)) > 0
    assert set(pq.read_table(pages[1].parent / "runs.parquet")["state"].to_pylist()) >= {
        "failed",
        "running",
        "done",
    }
