"""Runtimes that run ONNX files on the CPU, in as many threads as torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import torch

from condense_core.machine import keeping_signal_stack

Array = np.ndarray
Shape = tuple[int, ...]
Run = Callable[[Array], Array]
RunAll = Callable[[Sequence[Array]], Sequence[Array]]


@dataclass(frozen=True)
class Runtime:
    """A package, and how it loads an ONNX model for inputs of some shapes."""

    package: str
    load_all: Callable[[bytes, Sequence[Shape]], RunAll]

    def load(self, model: bytes, shape: Shape) -> Run:
        """Load a model of one input and one output for images of a shape (N, C, H, W)."""
        run = self.load_all(model, [shape])
        return lambda images: run([images])[0]

    def __str__(self) -> str:
        return f"{self.package} {version(self.package)}"


def _load_onnxruntime(model: bytes, shapes: Sequence[Shape]) -> RunAll:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    # else its threads would slow whatever runs next in this process
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [own.name for own in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))


def _load_openvino(model: bytes, shapes: Sequence[Shape]) -> RunAll:
    import openvino

    core = openvino.Core()
    network = core.read_model(model)
    network.reshape({place: list(shape) for place, shape in enumerate(shapes)})
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # like all others; the default is bfloat16 on CPUs with AMX
    }
    # each model sets a signal stack and puts back the one before it, which may be that of a model that is gone:
    # then the next signal, as Ctrl-C, would end the process
    with keeping_signal_stack():
        compiled = core.compile_model(network, "CPU", settings)
    return lambda inputs: [np.array(output) for output in compiled(list(inputs)).values()]


RUNTIMES = {
    "onnxruntime": Runtime("onnxruntime", _load_onnxruntime),
    "openvino": Runtime("openvino", _load_openvino),
}


def installed_runtimes() -> list[Runtime]:
    """Return the runtimes whose packages are installed."""
    return [runtime for runtime in RUNTIMES.values() if find_spec(runtime.package)]


def check_runtime(name: str) -> Runtime:
    """Return the runtime of a name. Raise ValueError if there is none, or if its package is not installed."""
    if name not in RUNTIMES:
        raise ValueError(f"runtime {name!r}: must be one of {', '.join(RUNTIMES)}")
    if RUNTIMES[name] not in installed_runtimes():
        raise ValueError(f"runtime {name!r}: is not installed: pip install 'condense[peers]'")
    return RUNTIMES[name]
