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

import numpy as np
import torch
from torch import Tensor, nn

from condense_core.looking import evaluating
from condense_core.model import CondenseNet

from .certificate import TOLERANCE, relative_difference
from .onnx_forms import Forms, dense_forms
from .onnx_graph import network_file
from .plan import Plan
from .runtimes import installed_runtimes
from .saving import load_condensed, save_condensed

Measured = Plan | Forms | None
Logits = dict[str, list[Tensor]]  # by the runtime and its version, of each batch


@dataclass(frozen=True)
class Format:
    """A kind of file: the packages that it needs, and how to write it and to run it in its runtimes."""

    packages: tuple[str, ...]
    write: Callable[[CondenseNet, Path, Tensor, Measured], None]
    run: Callable[[Path, list[Tensor]], Logits]


@dataclass(frozen=True)
class Exported:
    """An exported file; `difference` is max |Δ| / max |reference| of its logits, in a batch or alone."""

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
    model: CondenseNet, path: Path, images: Tensor, reference: Tensor, measured: Measured = None
) -> Exported:
    """Write `model` to `path` for batches of any size, and compare its logits on `images` with `reference`.

    A .safetensors file holds the plan that was measured, an .onnx file takes the forms (without them, the dense
    ones). A file that differs by more than the tolerance is discarded. Raise ValueError for a name that
    `check_format` refuses.
    """
    check_format(path)
    kind = FORMATS[path.suffix]
    example = torch.cat([images[:1]] * 2)  # exporters would take a batch of one image for a fixed size
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, quiet(), evaluating(model):
        temporary = Path(folder) / path.name
        kind.write(model, temporary, example, measured)
        exported = _describe(temporary, kind.run(temporary, [images, images[:1]]), reference)
        if exported.passes:
            temporary.replace(path)
    return exported


def _describe(path: Path, logits: Logits, reference: Tensor) -> Exported:
    found = [relative_difference(own, reference[: len(own)]) for batches in logits.values() for own in batches]
    content, difference = path.read_bytes(), float(np.max(found))  # NaN if any is, unlike max()
    return Exported(path.name, hashlib.sha256(content).hexdigest(), len(content), ", ".join(logits), difference)


def _write_torch(model: nn.Module, path: Path, images: Tensor, measured: Measured) -> None:
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine
    torch.export.save(program, path)


def _run_torch(path: Path, batches: list[Tensor]) -> Logits:
    module = torch.export.load(path).module()
    return {f"torch {version('torch')}": [module(images) for images in batches]}


def _write_condensed(model: CondenseNet, path: Path, images: Tensor, measured: Measured) -> None:
    save_condensed(model, path, measured if isinstance(measured, Plan) else None)


def _run_condensed(path: Path, batches: list[Tensor]) -> Logits:
    model, _ = load_condensed(path)
    return {f"condense {version('condense')}": [model(images) for images in batches]}


def _write_onnx(model: CondenseNet, path: Path, images: Tensor, measured: Measured) -> None:
    forms = measured.parts if isinstance(measured, Forms) else dense_forms(model)
    path.write_bytes(network_file(model, forms))


def _run_onnx(path: Path, batches: list[Tensor]) -> Logits:
    """Run the file in every runtime that is installed."""
    file = path.read_bytes()
    return {
        str(runtime): [
            torch.from_numpy(runtime.load(file, tuple(images.shape))(images.numpy())) for images in batches
        ]
        for runtime in installed_runtimes()
    }


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
