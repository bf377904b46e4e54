"""`python -m analysis.condense`: runs and checkpoints are exported with a certificate."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.official import CHECKPOINTS, needs_checkpoints
from helpers.runs import small_run

from analysis.condense import condense
from analysis.engines.single_run import execute
from analysis.networks import load_network
from analysis.networks.sample_images import photographs
from condense_core import fast
from condense_core.data import load
from condense_core.deploy import Plan, export, load_condensed
from condense_core.store import RunStore


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RunStore:
    store = RunStore(tmp_path_factory.mktemp("condense") / "runs")
    store.create()
    for model in ({}, {"grouping": "random", "connectivity": "block", "classifier_pruning": True}):
        assert execute(small_run(**model), store, store.root).state == "done"
    return store


def call(store: RunStore, *arguments):
    return CliRunner().invoke(
        condense, [*map(str, arguments), "--runs", str(store.root)], standalone_mode=False
    )


def test_a_run_is_exported_and_its_file_gives_the_masked_networks_logits(store, tmp_path):
    name = next(run.name for run in store.runs() if run.name.startswith("random"))
    target = tmp_path / "folder" / "small.onnx"
    options = "--for", "onnxruntime", "--batch", "2"
    result = call(store, name, "--to", target, "--to", tmp_path / "small.pt2", *options, "--json")
    assert result.exit_code == 0, result.output
    images = next(load(small_run().data).test.evaluation_batches())[0][:7]
    with torch.no_grad():
        expected = load_network(name, store).eval()(images).numpy()
    import onnxruntime

    (logits,) = onnxruntime.InferenceSession(target).run(None, {"images": images.numpy()})
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
    module = torch.export.load(tmp_path / "small.pt2").module()
    assert np.abs(module(images).detach().numpy() - expected).max() <= 1e-5 * np.abs(expected).max()
    certificate = json.loads(target.with_name("small.onnx.certificate.json").read_text())
    assert certificate["certificate"]["holds"]
    assert certificate["certificate"]["images_from"] == "test images of digits"
    assert certificate["export"]["holds"]
    assert certificate["export"]["bytes"] == target.stat().st_size
    assert [time["batch"] for time in certificate["forms"]["times"]] == [2]
    assert certificate["forms"]["runtime"].startswith("onnxruntime")
    assert json.loads(result.stdout)["certificate"] == certificate["certificate"]


def test_one_image_is_enough_to_export(store, tmp_path):
    name = next(run.name for run in store.runs() if run.name.startswith("learned"))
    assert call(store, name, "--images", 1, "--to", tmp_path / "a.pt2").exit_code == 0
    module = torch.export.load(tmp_path / "a.pt2").module()
    assert module(torch.zeros(5, 3, 8, 8)).shape == (5, 10)


def test_an_exported_file_names_no_folder_of_this_machine(store, tmp_path):
    name = next(run.name for run in store.runs() if run.name.startswith("learned"))
    assert call(store, name, "--to", tmp_path / "a.onnx").exit_code == 0
    assert b"condense_core/" not in (tmp_path / "a.onnx").read_bytes()


@needs_checkpoints
@pytest.mark.parametrize("file", ["condensenet50_c4g4.pth.tar", "converted_condensenet50_c4g4.pth.tar"])
def test_an_official_checkpoint_is_certified_on_photographs(store, file):
    result = call(store, CHECKPOINTS / file, "--per-layer")
    assert result.exit_code == 0, result.output
    assert "every group keeps exactly its share" in result.output
    assert "photographs" in result.output
    assert "blocks.block3.7.conv1" in result.output


def test_photographs_are_real_images_of_the_size_asked_for():
    images = photographs(4, 32)
    assert images.shape == (4, 3, 32, 32)
    assert not torch.equal(images[0], images[2])
    assert images.std() == pytest.approx(1, abs=0.05)
    assert torch.equal(images, photographs(4, 32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learned", "--to", "/tmp.onnx/../tmp/.."], "must end in"),
        (["x", "--to", "small.onx"], r"to 'small.onx': must end in .pt2 or .onnx"),
        (["x", "--for", "tvm"], "runtime 'tvm': must be one of onnxruntime, openvino"),
        (["x", "--batch", "1,x"], "batch '1,x': must be whole numbers"),
        (["nothing"], "run 'nothing': must be a run (learned-|run 'nothing': did you mean"),
        (["nowhere.pth"], "nowhere.pth: there is no such file"),
        (["learned", "--to", "/proc/nowhere/a.pt2"], "cannot be written|No such file"),
        (["learned", "--data", "cifra10"], "data 'cifra10': did you mean 'cifar10'"),
    ],
)
def test_a_bad_request_is_one_line_before_any_work(store, arguments, message):
    result = call(store, *arguments)
    assert result.exit_code == 1  # an exception, which the command prints in one line
    assert any(part in str(result.exception) for part in message.split("|")), result.exception
    assert "\n" not in str(result.exception)


def test_a_network_of_single_weights_is_refused_with_the_reason(store):
    config = small_run(grouping="unstructured")
    assert execute(config, store, store.root).state == "done"
    result = call(store, config.name)
    assert "single weights are pruned" in str(result.exception)


@pytest.mark.parametrize("value", [1, float("nan")])
def test_a_file_that_differs_for_a_single_image_is_not_put_in_place(value, store, tmp_path, monkeypatch):
    kind = export.FORMATS[".pt2"]

    def wrong(path, batches):
        ((runtime, (whole, single)),) = kind.run(path, batches).items()
        return {runtime: [whole, torch.full_like(single, value)]}

    monkeypatch.setitem(export.FORMATS, ".pt2", replace(kind, run=wrong))
    name = next(run.name for run in store.runs() if run.name.startswith("learned"))
    result = call(store, name, "--to", tmp_path / "a.pt2")
    assert result.return_value == 1
    assert not list(tmp_path.iterdir())


def test_a_file_with_a_plan_is_loaded_and_runs_by_it(store, tmp_path):
    name = next(run.name for run in store.runs() if run.name.startswith("learned"))
    result = call(store, name, "--to", tmp_path / "small.safetensors", "--batch", 40, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    model, plan = load_condensed(tmp_path / "small.safetensors")
    assert plan.to_dict() == Plan.from_dict(record["plan"]).to_dict()
    assert plan.batch == 40
    assert fast.execution_of(model) == plan.execution
    result = call(store, name, "--batch", 1)
    assert "Batch 1, 8 x 8 pixels" in result.output
    assert "the whole network: " in result.output.lower()
