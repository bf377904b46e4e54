"""Ways to run a network on the CPU: torch and other runtimes, dense or condensed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from condense_core import CondenseNet, condense, cost_table, fast
from condense_core.deploy import RUNTIMES, choose_forms, network_file, quiet
from condense_core.grouping import MaskedConv, live_weights
from condense_core.looking import same_draws
from condense_core.tables import Named

Call = Callable[[], object]


@dataclass(frozen=True)
class Subject:
    """A network to time: dense (pruned weights are zeros), and condensed if possible.

    `macs` are those of the condensed network for one image, `dense_macs` those of the dense one.
    """

    name: str
    dense: nn.Module
    condensed: CondenseNet | None
    image_size: int
    macs: int
    dense_macs: int
    params: int


def subject(name: str, model: nn.Module, image_size: int) -> Subject:
    """Prepare copies of a network for timing, in evaluation mode and without gradients."""
    condensed = None
    if isinstance(model, CondenseNet):
        try:
            condensed = condense(model)
        except ValueError:  # single weights are pruned: only the dense network can run
            condensed = None
    dense = without_masks(model)
    cost = cost_table(model, None, image_size)
    return Subject(
        name, dense, condensed, image_size, cost.macs, cost_table(dense, None, image_size).macs, cost.params
    )


def without_masks(model: nn.Module) -> nn.Module:
    """Return a copy for other runtimes: its masked convolutions are plain ones with zeros."""
    dense = copy.deepcopy(model)
    for name, conv in list(dense.named_modules()):
        if isinstance(conv, MaskedConv):
            with same_draws():
                plain = nn.Conv2d(conv.in_channels, conv.out_channels, 1, bias=False)
            plain.weight = nn.Parameter((conv.weight * live_weights(conv)).detach())
            parent, _, child = name.rpartition(".")
            setattr(dense.get_submodule(parent), child, plain)
    return dense.eval().requires_grad_(False)


def _eager(model: nn.Module, images: Tensor, folder: Path) -> Call:
    return lambda: model(images)


def _channels_last(model: nn.Module, images: Tensor, folder: Path) -> Call:
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    return lambda: last(images.contiguous(memory_format=torch.channels_last))


def _compiled(model: nn.Module, images: Tensor, folder: Path) -> Call:
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(model), dynamic=False)
    return lambda: compiled(images)


def _onnx(model: nn.Module, images: Tensor, folder: Path) -> Path:
    """Write any network by torch's own exporter, once."""
    path = folder / f"{id(model)}.onnx"
    if not path.is_file():
        batch = {0: torch.export.Dim("batch")}
        names: Any = {"input_names": ["images"], "output_names": ["logits"], "dynamic_shapes": (batch,)}
        with quiet():
            program = torch.onnx.export(
                model, (torch.cat([images[:1]] * 2),), dynamo=True, verbose=False, **names
            )
        assert program is not None
        path.write_bytes(program.model_proto.SerializeToString())  # `save` would put the weights beside it
    return path


def _in(runtime: str) -> Callable[[nn.Module, Tensor, Path], Call]:
    def build(model: nn.Module, images: Tensor, folder: Path) -> Call:
        run = RUNTIMES[runtime].load(_onnx(model, images, folder).read_bytes(), tuple(images.shape))
        return partial(run, images.numpy())

    return build


def _exported_for(runtime: str) -> Callable[[Any, Tensor, Path], Call]:
    def build(model: CondenseNet, images: Tensor, folder: Path) -> Call:
        """Run the file that is written for this runtime and batch."""
        forms = choose_forms(model, runtime, (len(images),))
        run = RUNTIMES[runtime].load(network_file(model, forms.parts), tuple(images.shape))
        return partial(run, images.numpy())

    return build


def _modules(model: Any, images: Tensor, folder: Path) -> Call:
    small = copy.deepcopy(model)
    fast.use(small, "reference")
    return lambda: small(images)


@dataclass(frozen=True)
class Execution:
    """A way to run a network, dense or condensed, and the optional packages that it needs."""

    name: str
    condensed: bool
    build: Callable[[Any, Tensor, Path], Call]
    needs: tuple[str, ...] = ()
    by_default: bool = True

    @property
    def is_installed(self) -> bool:
        """Whether the packages that it needs are installed."""
        return all(find_spec(name) for name in self.needs)


_ONNX = ("onnx", "onnxscript", "onnxruntime")
_EXECUTIONS = (
    Execution("torch", False, _eager),
    Execution("torch channels_last", False, _channels_last),
    Execution("torch.compile", False, _compiled, by_default=False),
    Execution("onnxruntime", False, _in("onnxruntime"), _ONNX),
    Execution("openvino", False, _in("openvino"), ("onnx", "onnxscript", "openvino")),
    Execution("condensed torch", True, _modules),
    Execution("condensed onnxruntime", True, _exported_for("onnxruntime"), ("onnx", "onnxruntime")),
    Execution("condensed openvino", True, _exported_for("openvino"), ("onnx", "openvino"), False),
    Execution("condensed fast", True, _eager),
)
EXECUTIONS = Named("execution", {execution.name: execution for execution in _EXECUTIONS})
"""All ways to run a network, by name."""


def prepare(execution: Execution, network: Subject, folder: Path) -> None:
    """Write the file that the execution reads, if any, so that writing is not timed."""
    if "onnx" in execution.needs and not execution.condensed:
        _onnx(network.dense, torch.zeros(1, 3, network.image_size, network.image_size), folder)


def build(execution: Execution, network: Subject, batch: int, folder: Path) -> Call:
    """Return a call that runs a batch of noise. Raise ValueError if there is no condensed network."""
    model = network.condensed if execution.condensed else network.dense
    if model is None:
        raise ValueError(f"{network.name}: cannot be condensed, so not run as {execution.name!r}")
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, network.image_size, network.image_size, generator=draws)
    with torch.no_grad():
        call = execution.build(model, images, folder)

    def run() -> object:
        with torch.no_grad():
            return call()

    return run
