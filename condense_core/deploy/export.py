"""Write condensed networks as files for other runtimes, and check each file by running it in its runtime."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from condense_core.looking import evaluating
from condense_core.model import CondenseNet

from .onnx_forms import Forms, dense_forms
from .onnx_graph import network_file
from .outputs import TOLERANCE, Arguments, arguments_of, difference, tensors_of
from .plan import Plan
from .runtimes import Runtime, installed_runtimes
from .saving import load_condensed, save_condensed
from .tracing import batch_of, first_of, onnx_file, torch_program

Measured = Plan | Forms | None
Found = dict[str, list[Any]]  # outputs by the runtime and its version, of each batch


@dataclass(frozen=True)
class Format:
    """A kind of file: the packages that it needs, and how to write it and to run it in its runtimes."""

    packages: tuple[str, ...]
    write: Callable[[Any, Path, Arguments, Measured], None]
    run: Callable[[Path, list[Arguments]], Found]


@dataclass(frozen=True)
class Exported:
    """An exported file; `difference` is max |Δ| / max |reference| of its outputs, in a batch or alone."""

    file: str
    sha256: str
    bytes: int
    runtime: str
    difference: float  # the largest of all runtimes

    @property
    def passes(self) -> bool:
        """Whether the file gives the reference's logits within the tolerance."""
        return self.difference <= TOLERANCE


def check_format(path: Path) -> None:
    """Raise ValueError for a file name whose kind is unknown or needs a package that is not installed."""
    if path.suffix not in FORMATS:
        raise ValueError(f"to {str(path)!r}: must end in {' or '.join(FORMATS)}")
    if path.is_dir():
        raise ValueError(f"to {str(path)!r}: is a folder")
    missing = [name for name in FORMATS[path.suffix].packages if find_spec(name) is None]
    if missing:
        needed = ", ".join(missing)
        raise ValueError(f"to {str(path)!r}: needs {needed}, not installed: pip install 'condense[export]'")


def export_file(
    model: nn.Module, path: Path, images: Any, reference: Any, measured: Measured = None
) -> Exported:
    """Write `model` to `path` for batches of any size, and compare its outputs on `images` with `reference`.

    Any network can be written as .pt2 or .onnx; its images may be a tuple of arguments, its outputs nested. For
    a CondenseNet, a .safetensors file holds the plan that was measured, and an .onnx file takes the forms
    (without them, the dense ones). A file that differs by more than the tolerance is discarded. Raise
    ValueError for a name that `check_format` refuses, and for a network that cannot be written so.
    """
    check_format(path)
    check_kind(path, model)
    kind, arguments = FORMATS[path.suffix], arguments_of(images)
    batch = batch_of(arguments)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, quiet(), evaluating(model):
        temporary = Path(folder) / path.name
        kind.write(model, temporary, arguments, measured)
        found = kind.run(temporary, [arguments, first_of(arguments, batch)])
        exported = _describe(temporary, found, [reference, first_of(reference, batch)])
        if exported.passes:
            temporary.replace(path)
    return exported


def check_kind(path: Path, model: nn.Module) -> None:
    """Raise ValueError for a kind of file that the network cannot be written as."""
    if isinstance(model, CondenseNet) or path.suffix == ".pt2":
        return
    if path.suffix == ".safetensors":
        raise ValueError(
            f"to {str(path)!r}: holds a CondenseNet; export a {model._get_name()} as .pt2 or .onnx, "
            "or save its weights and masks before it is condensed"
        )
    if find_spec("onnxscript") is None:
        raise ValueError(f"to {str(path)!r}: needs onnxscript, not installed: pip install 'condense[export]'")


def _describe(path: Path, found: Found, reference: list[Any]) -> Exported:
    worst = max(
        difference(tensors_of(own), tensors_of(expected))
        for batches in found.values()
        for own, expected in zip(batches, reference, strict=True)
    )
    content = path.read_bytes()
    return Exported(path.name, hashlib.sha256(content).hexdigest(), len(content), ", ".join(found), worst)


def _write_torch(model: nn.Module, path: Path, arguments: Arguments, measured: Measured) -> None:
    program = _written(torch_program, model, arguments)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine
    torch.export.save(program, path)


def _run_torch(path: Path, batches: list[Arguments]) -> Found:
    module = torch.export.load(path).module()
    return {f"torch {version('torch')}": [module(*arguments) for arguments in batches]}


def _write_condensed(model: CondenseNet, path: Path, arguments: Arguments, measured: Measured) -> None:
    save_condensed(model, path, measured if isinstance(measured, Plan) else None)


def _run_condensed(path: Path, batches: list[Arguments]) -> Found:
    model, _ = load_condensed(path)
    return {f"condense {version('condense')}": [model(*arguments) for arguments in batches]}


def _write_onnx(model: nn.Module, path: Path, arguments: Arguments, measured: Measured) -> None:
    if isinstance(model, CondenseNet):
        forms = measured.parts if isinstance(measured, Forms) else dense_forms(model)
        path.write_bytes(network_file(model, forms))
    else:
        path.write_bytes(_written(onnx_file, model, arguments))


def _written(write: Callable[[nn.Module, Arguments], Any], model: nn.Module, arguments: Arguments) -> Any:
    """Write a network by an exporter of torch. Raise ValueError if the exporter refuses it."""
    try:
        return write(model, arguments)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{model._get_name()}: cannot be exported for batches of any size: {reason}"
        ) from error


def _run_onnx(path: Path, batches: list[Arguments]) -> Found:
    """Run the file in every runtime that is installed."""
    file = path.read_bytes()
    return {
        str(runtime): [_run_in(runtime, file, tensors_of(arguments)) for arguments in batches]
        for runtime in installed_runtimes()
    }


def _run_in(runtime: Runtime, file: bytes, inputs: list[Tensor]) -> list[Tensor]:
    run = runtime.load_all(file, [tuple(tensor.shape) for tensor in inputs])
    return [torch.from_numpy(output) for output in run([tensor.numpy() for tensor in inputs])]


FORMATS = {
    ".pt2": Format(("torch",), _write_torch, _run_torch),
    ".onnx": Format(("onnx", "onnxruntime"), _write_onnx, _run_onnx),
    ".safetensors": Format(("safetensors",), _write_condensed, _run_condensed),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings and log messages, which exporters write about themselves."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
