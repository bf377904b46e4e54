"""Which device trains: CPU or GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from condense_core.validation import nearest

GPU_FILES = ("nvidiactl", "nvidia0", "nvmap", "dxg", "kfd")  # in /dev: NVIDIA's, Jetson's, WSL's, AMD's


def resolve_device(asked: str, has_gpu: Callable[[], bool]) -> str:
    """Return 'cpu' or 'cuda'; 'auto' means cuda if there is a GPU. Raises ValueError for another device."""
    if asked not in (valid := ("auto", "cpu", "cuda")):
        raise ValueError(f"device {asked!r}: {nearest(asked, valid)}")
    if asked == "cpu" or (asked == "auto" and not has_gpu()):
        return "cpu"
    if not has_gpu():
        raise ValueError("device 'cuda': there is no GPU; valid: auto, cpu")
    return "cuda"


def gpu_is_here() -> bool:
    """Return whether this machine has a GPU; imports torch, which is slow, only if there may be one."""
    if sys.platform == "linux" and not any(Path("/dev", name).exists() for name in GPU_FILES):
        return False
    import torch

    return torch.cuda.is_available()
