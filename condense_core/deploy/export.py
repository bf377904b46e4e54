"""Condensed networks as files of other runtimes, each checked by running the file in the runtime it is for."""

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

import torch
from torch import Tensor, nn

from condense_core.model import CondenseNet

from .certificate import TOLERANCE, relative_difference
from .plan import Plan
from .saving import load_condensed, save_condensed

FORMATS = {
    ".pt2": ("torch",),
    ".onnx": ("onnx", "onnxscript", "onnxruntime"),
    ".safetensors": ("safetensors",),
}
"""What each kind of file needs; the last one named is its runtime, but safetensors are run by this project."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, and max |Δ| / max |reference| of its logits, with the batch and one by one."""

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
    """Raise ValueError for a file name whose kind is unknown or needs a package that is not there."""
    if path.suffix not in FORMATS:
        raise ValueError(f"to {str(path)!r}: must end in {' or '.join(FORMATS)}")
    if path.is_dir():
        raise ValueError(f"to {str(path)!r}: is a folder")
    missing = [name for name in FORMATS[path.suffix] if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"to {str(path)!r}: needs {', '.join(missing)}, not installed: pip install 'condense[export]'"
        )


@torch.no_grad()
def export_file(
    model: CondenseNet, path: Path, images: Tensor, reference: Tensor, plan: Plan | None = None
) -> Exported:
    """Write `model` to `path` for batches of any size, and run the file on `images` beside `reference` logits.

    Only a .safetensors file holds the plan. A file that differs by more than the tolerance is not put in place.
    Raises ValueError for its name.
    """
    check_format(path)
    write, run = _WAYS[path.suffix]
    runtime = "condense" if path.suffix == ".safetensors" else FORMATS[path.suffix][-1]
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, quiet():
        temporary = Path(folder) / path.name
        write(model.eval(), temporary, torch.cat([images[:1]] * 2), plan)  # one image would be taken for fixed
        logits = run(temporary, [images, images[:1]])
        differences = [relative_difference(own, reference[: len(own)]) for own in logits]
        content = temporary.read_bytes()
        exported = Exported(
            path.name,
            hashlib.sha256(content).hexdigest(),
            len(content),
            f"{runtime} {version(runtime)}",
            max(differences),
        )
        if exported.passes:
            temporary.replace(path)
    return exported


def _write_torch(model: nn.Module, path: Path, images: Tensor, plan: Plan | None) -> None:
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names this machine's folders
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
    """Write `model` as ONNX for batches of any size; `images` (N, 3, H, W) are an example of two or more."""
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
        del node.metadata_props[:]  # stack traces, which name this machine's folders
    onnx.save(proto, path)


def _run_onnx(path: Path, batches: list[Tensor]) -> list[Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(session.run(None, {"images": images.numpy()})[0]) for images in batches]


_WAYS: dict[str, tuple[Callable[..., None], Callable[..., list[Tensor]]]] = {
    ".pt2": (_write_torch, _run_torch),
    ".onnx": (write_onnx, _run_onnx),
    ".safetensors": (_write_condensed, _run_condensed),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' remarks about themselves."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
