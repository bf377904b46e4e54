"""The run store and runs in it: nothing is lost, found again, resumed or skipped."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from helpers.runs import small_run

from analysis.engines import single_run
from analysis.engines.single_run import execute
from condense_core import CondenseNet
from condense_core.data import load
from condense_core.files import write_json
from condense_core.store import RunStore, find_damage

DATA = Path("data")


def test_a_run_leaves_all_that_the_design_says_in_plain_formats(store):
    config = small_run()
    assert execute(config, store, Path("data")).state == "done"
    run = store.run(config)
    assert run.config == config
    assert [row["epoch"] for row in run.epochs()] == list(range(1, 7))
    assert {"train_loss", "curve_error_percent", "curves_on", "macs", "learning_rate"} <= set(run.epochs()[0])
    assert [record["stage"] for record in run.stages()] == [0, 1, 2, 3, None]
    last = run.stages()[-1]
    tensors = run.stage_tensors(last)
    for name in [name for name in tensors if name.startswith("mask.")]:
        assert tensors[name].dtype == torch.bool
        assert tensors[name].shape == tensors[name.replace("mask.", "importance.")].shape
    assert [one.stage for one in run.checkpoints()] == [3, 2, 1]
    assert run.record["environment"]["torch"] == torch.__version__.partition("+")[0]
    assert run.result["test_images"] == 600
    assert set(run.weights()) == set(CondenseNet(config.model).state_dict())
    assert run.status["state"] == "done"


def test_a_run_that_is_done_is_not_trained_again(store, monkeypatch):
    config = small_run()
    execute(config, store, Path("data"))
    monkeypatch.setattr(single_run, "_train", lambda *_: pytest.fail("trained again"))
    assert execute(config, store, Path("data")).state == "done"


@pytest.mark.parametrize("polls", [1, 4, 8, 11, 17])
def test_a_run_that_was_stopped_goes_on_to_the_same_files(store, tmp_path, polls):
    config, count = small_run(), [0]

    def stop() -> bool:
        count[0] += 1
        return count[0] > polls

    assert execute(config, store, Path("data"), stop).state == "stopped"
    assert execute(config, store, Path("data")).state == "done"
    whole = RunStore(tmp_path / "whole")
    execute(config, whole, Path("data"))
    assert store.run(config).contents() == whole.run(config).contents()


def test_a_run_that_fails_says_why_and_is_tried_again(store, monkeypatch):
    config = small_run()
    with monkeypatch.context() as patch:
        patch.setattr(single_run, "_write_records", lambda *_: 1 / 0)
        outcome = execute(config, store, Path("data"))
    assert (outcome.state, outcome.reason) == ("failed", "ZeroDivisionError: division by zero")
    assert store.run(config).status["reason"] == outcome.reason
    assert execute(config, store, Path("data")).state == "done"


def test_a_folder_of_something_else_is_no_run_store(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="is not a run store"):
        RunStore(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        RunStore(tmp_path / "thesis.tex")


def test_an_unknown_study_is_answered_with_those_that_there_are(store):
    store.write_study("one", {})
    with pytest.raises(FileNotFoundError, match=r"study 'two': not in .* \(there: one\)"):
        store.read_study("two")


def of_runs(*runs: str) -> dict:
    variant = {"label": "a", "role": "base", "size": 2, "residual": 0.0, "runs": list(runs)}
    return {"question": "?", "settings": {}, "variants": [variant]}


def test_a_study_with_runs_that_it_has_no_more_is_kept_under_another_name(store):
    def listed(name: str) -> list[str]:
        return store.read_study(name)["variants"][0]["runs"]

    assert store.keep_study("one", of_runs("r1")) is None
    assert store.keep_study("one", of_runs("r1", "r2")) is None
    assert listed("one") == ["r1", "r2"]
    assert store.keep_study("one", of_runs("r1", "r3")) == "one.1"
    assert (listed("one"), listed("one.1")) == (["r1", "r3"], ["r1", "r2"])
    assert store.read_study("one.1")["settings"]["name"] == "one.1"
    assert store.keep_study("one", of_runs("r1", "r2")) == "one.2"
    assert store.keep_study("one", of_runs("r4")) == "one.1"
    assert listed("one") == ["r4"]
    (store.root / "studies" / "one.json").write_text("{")
    assert store.keep_study("one", of_runs("r5")) is None
    assert listed("one") == ["r5"]


def test_json_is_strict_and_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "status.json"
    write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"value": math.nan})
    assert json.loads(path.read_text()) == {"value": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_keeps_what_its_weights_said_of_every_image(store):
    config = small_run()
    execute(config, store, DATA)
    run = store.run(config)
    said, data = run.outcomes(), load(config.data)
    for split in ("test", "validation"):
        images = getattr(data, split)
        assert said[f"{split}.image"].tolist() == data.places[split].tolist()
        assert said[f"{split}.label"].tolist() == images.labels.tolist()
    wrong = said["test.predicted"] != said["test.label"]
    assert 100 * wrong.mean() == pytest.approx(run.result["test_error_percent"], abs=1e-9)
    curve = said["validation.predicted"] != said["validation.label"]
    assert 100 * curve.mean() == pytest.approx(run.epochs()[-1]["curve_error_percent"], abs=1e-9)
    network = CondenseNet(config.model)
    network.load_state_dict(run.weights())
    with torch.no_grad():
        logits = torch.cat([network.eval()(images) for images, _ in data.test.evaluation_batches()])
    probability = logits.softmax(1)[torch.arange(600), data.test.labels].numpy()
    assert said["test.probability"] == pytest.approx(probability, abs=2e-3)  # float16


def test_outcomes_that_are_not_those_of_the_result_are_refused(store):
    config = small_run()
    execute(config, store, DATA)
    run = store.run(config)
    path = run.folder / "result.json"
    path.write_text(json.dumps(run.result | {"test_error_percent": 1.0}))
    with pytest.raises(ValueError, match=r"outcomes\.safetensors: \d+ of 600 test images are wrong"):
        run.outcomes()
    assert "outcomes.safetensors" in find_damage(store, run.name)


def test_a_run_of_an_earlier_version_has_no_outcomes(store):
    config = small_run()
    execute(config, store, DATA)
    run = store.run(config)
    (run.folder / "outcomes.safetensors").unlink()
    record = {name: value for name, value in run.result.items() if name != "outcomes_sha256"}
    (run.folder / "result.json").write_text(json.dumps(record))
    assert run.outcomes() == {}
    assert find_damage(store, run.name) is None
