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
from .plan import Plan
from .saving import load_condensed, save_condensed


@dataclass(frozen=True)
class Format:
    """A kind of file: the packages that it needs, the one that runs it, and how to write and to run it."""

    packages: tuple[str, ...]
    runtime: str
    write: Callable[[CondenseNet, Path, Tensor, Plan | None], None]
    run: Callable[[Path, list[Tensor]], list[Tensor]]  # file, batches of images → logits of each batch


@dataclass(frozen=True)
class Exported:
    """An exported file; `difference` is max |Δ| / max |reference| of its logits, in a batch or alone."""

    file: str
    sha256: str
    bytes: int
    runtime: str
    difference: float

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
    model: CondenseNet, path: Path, images: Tensor, reference: Tensor, plan: Plan | None = None
) -> Exported:
    """Write `model` to `path` for batches of any size, and compare its logits on `images` with `reference`.

    Only a .safetensors file holds the plan. A file that differs by more than the tolerance is discarded. Raise
    ValueError for a name that `check_format` refuses.
    """
    check_format(path)
    kind = FORMATS[path.suffix]
    example = torch.cat([images[:1]] * 2)  # exporters would take a batch of one image for a fixed size
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, quiet(), evaluating(model):
        temporary = Path(folder) / path.name
        kind.write(model, temporary, example, plan)
        logits = kind.run(temporary, [images, images[:1]])
        differences = [relative_difference(own, reference[: len(own)]) for own in logits]
        exported = _describe(temporary, f"{kind.runtime} {version(kind.runtime)}", differences)
        if exported.passes:
            temporary.replace(path)
    return exported


def _describe(path: Path, runtime: str, differences: list[float]) -> Exported:
    content, difference = path.read_bytes(), float(np.max(differences))  # NaN if any is, unlike max()
    return Exported(path.name, hashlib.sha256(content).hexdigest(), len(content), runtime, difference)


def _write_torch(model: nn.Module, path: Path, images: Tensor, plan: Plan | None) -> None:
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine
    torch.export.save(program, path)


def _run_torch(path: Path, batches: list[Tensor]) -> list[Tensor]:
    module = torch.export.load(path).module()
    return [module(images) for images in batches]


def _write_condensed(model: CondenseNet, path: Path, images: Tensor, plan: Plan | None) -> None:
    save_condensed(model, path, plan)


def _run_condensed(path: Path, batches: list[Tensor]) -> list[Tensor]:
    model, _ = load_condensed(path)
    return [model(images) for images in batches]


def write_onnx(model: nn.Module, path: Path, images: Tensor, plan: Plan | None = None) -> None:
    """Write `model` as ONNX for batches of any size; `images` (N, 3, H, W) are an example, N at least 2."""
    import onnx

    program = torch.onnx.export(
        model,
        (images,),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # stack traces, which name folders of this machine
    onnx.save(proto, path)


def _run_onnx(path: Path, batches: list[Tensor]) -> list[Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(session.run(None, {"images": images.numpy()})[0]) for images in batches]


FORMATS = {
    ".pt2": Format(("torch",), "torch", _write_torch, _run_torch),
    ".onnx": Format(("onnx", "onnxscript", "onnxruntime"), "onnxruntime", write_onnx, _run_onnx),
    ".safetensors": Format(("safetensors",), "condense", _write_condensed, _run_condensed),
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
