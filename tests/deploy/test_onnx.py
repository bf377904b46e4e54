"""ONNX files: every form gives the reference's logits, and the fastest in a runtime is chosen."""

from __future__ import annotations

import onnx
import pytest
import torch
from helpers.networks import lived_in
from helpers.official import CHECKPOINTS, needs_checkpoints
from helpers.runs import small_model
from torch import nn

from condense_core import condense, load_official
from condense_core.deploy import choose_forms, export_file, onnx_forms
from condense_core.deploy.onnx_forms import FileTime, dense_forms, forms_of
from condense_core.deploy.onnx_graph import network_file
from condense_core.deploy.onnx_layers import Form
from condense_core.deploy.outputs import TOLERANCE, relative_difference
from condense_core.deploy.plan import CHOICES
from condense_core.deploy.runtimes import RUNTIMES, installed_runtimes
from condense_core.machine import signal_stack

NETWORKS = {
    "learned": {},
    "one stage earlier": {"stage": 2},
    "not pruned": {"stage": 0},
    "dense": {"grouping": "none", "groups": 1, "condense_factor": 1},
    "block connectivity": {"connectivity": "block", "growth": (8, 8, 8)},
    "not permuted": {"permute": False},
    "pruned classifier": {"classifier_pruning": True},
    "many groups": {"groups": 4, "groups_3x3": 4, "growth": (4, 8, 16)},
    "large images": {"image_size": 70, "stem_stride": 2},
}


def images(count: int = 2, size: int = 8) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def difference(file: bytes, model, batch: torch.Tensor, runtime: str = "onnxruntime") -> float:
    with torch.no_grad():
        found = torch.from_numpy(RUNTIMES[runtime].load(file, tuple(batch.shape))(batch.numpy()))
        return relative_difference(found, model(batch))


@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("fold", [True, False])
def test_every_form_gives_the_references_logits(settings, fold):
    own = dict(settings)
    stage = own.pop("stage", 3)
    model = lived_in(small_model(**own), stage).eval()
    small = condense(model, fold)
    options = {name: forms_of(part) for name, part in small.blocks.named_children()}
    for place in range(max(map(len, options.values()))):
        forms = {name: own[min(place, len(own) - 1)] for name, own in options.items()}
        file = network_file(small, forms)
        onnx.checker.check_model(onnx.load_from_string(file), full_check=True)
        for count in (1, 3):
            assert difference(file, model, images(count, model.config.image_size)) <= TOLERANCE, forms


@pytest.mark.parametrize("pointwise", CHOICES)
def test_groups_that_were_trained_apart_stay_apart(pointwise):
    small = condense(lived_in(small_model()).eval(), fold=False)
    for module in small.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.add_(torch.linspace(0, 1, len(module.weight)))
    forms = {name: Form(pointwise) for name in dense_forms(small)}
    assert difference(network_file(small, forms), small, images()) <= TOLERANCE


@needs_checkpoints
@pytest.mark.parametrize("runtime", [runtime.package for runtime in installed_runtimes()])
def test_an_official_network_is_the_same_in_every_runtime(runtime):
    model = load_official(CHECKPOINTS / "condensenet50_c4g4.pth.tar").eval()
    small = condense(model)
    for form in (Form("grouped", 4), Form("union", 2), Form("dense", 1)):
        file = network_file(small, dict.fromkeys(dense_forms(small), form))
        assert difference(file, model, images(2, 32), runtime) <= TOLERANCE


@pytest.mark.parametrize("runtime", [runtime.package for runtime in installed_runtimes()])
def test_the_forms_are_chosen_in_the_runtime_and_checked_in_all(runtime, tmp_path):
    model = lived_in(small_model()).eval()
    small = condense(model)
    forms = choose_forms(small, runtime, (1, 4), repeats=1)
    assert forms.parts.keys() == dict(small.blocks.named_children()).keys()
    assert [time.batch for time in forms.times] == [1, 4]
    assert all(time.ratio <= 1 for time in forms.times)
    assert forms.runtime.startswith(runtime)
    with torch.no_grad():
        exported = export_file(small, tmp_path / "small.onnx", images(), model(images()), forms)
    assert exported.passes
    assert exported.runtime == ", ".join(map(str, installed_runtimes()))
    assert (tmp_path / "small.onnx").read_bytes() == network_file(small, forms.parts)


@pytest.mark.parametrize(("ratio", "is_dense"), [(0.5, False), (1.5, True)])
def test_a_file_that_is_slower_as_a_whole_is_dense_and_says_so(ratio, is_dense, monkeypatch):
    small = condense(lived_in(small_model()).eval())

    def beside(dense, files, x, runtime, batch, repeats, clock, seconds=0.0):
        whole = seconds > 0
        yield from (FileTime(batch, ratio if whole else 0.9, 1.0) for _ in files)

    monkeypatch.setattr(onnx_forms, "_beside", beside)
    forms = choose_forms(small, "onnxruntime", (1, 8))
    assert (forms.parts == dense_forms(small)) is is_dense
    assert [time.ratio for time in forms.times] == [1.0 if is_dense else ratio] * 2
    assert f"{1.0 if is_dense else ratio:.2f} (batch 8)" in str(forms)
    assert ("No other form is faster" in str(forms)) is is_dense


@pytest.mark.parametrize("runtime", [runtime.package for runtime in installed_runtimes()])
def test_models_of_a_runtime_leave_the_signal_stack_as_it_was(runtime):
    def stack():
        found = signal_stack()
        return found and (found.start, found.flags, found.size)

    small = condense(lived_in(small_model()).eval(), execution="reference")
    file, before = network_file(small, dense_forms(small)), stack()
    first, second = (RUNTIMES[runtime].load(file, (1, 3, 8, 8)) for _ in range(2))
    assert stack() == before
    del first
    assert stack() == before
    del second  # what it would put back is that of the first one, which is gone
    assert stack() == before


def test_unknown_runtimes_and_types_are_refused():
    small = condense(lived_in(small_model()).eval())
    with pytest.raises(ValueError, match="runtime 'tensorrt': must be one of onnxruntime, openvino"):
        choose_forms(small, "tensorrt")
    with pytest.raises(ValueError, match=r"weights of type torch\.float64: an ONNX file is written in float32"):
        network_file(small.double(), dense_forms(small))
