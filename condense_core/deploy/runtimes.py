"""Runtimes that run ONNX files on the CPU, in as many threads as torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import torch

from condense_core.machine import keeping_signal_stack

Array = np.ndarray
Run = Callable[[Array], Array]


@dataclass(frozen=True)
class Runtime:
    """A package, and how it loads an ONNX model for images of a shape (N, C, H, W)."""

    package: str
    load: Callable[[bytes, tuple[int, ...]], Run]

    def __str__(self) -> str:
        return f"{self.package} {version(self.package)}"


def _load_onnxruntime(model: bytes, shape: tuple[int, ...]) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    # else its threads would slow whatever runs next in this process
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def _load_openvino(model: bytes, shape: tuple[int, ...]) -> Run:
    import openvino

    core = openvino.Core()
    network = core.read_model(model)
    network.reshape({"images": list(shape)})
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # like all others; the default is bfloat16 on CPUs with AMX
    }
    # each model sets a signal stack and puts back the one before it, which may be that of a model that is gone:
    # then the next signal, as Ctrl-C, would end the process
    with keeping_signal_stack():
        compiled = core.compile_model(network, "CPU", settings)
    return lambda images: np.array(compiled([images])[0])


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
