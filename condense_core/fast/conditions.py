"""Conditions for the kernels: device, type, hooks. Reads modules and tensors, without numba."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from condense_core.looking import hooks_of


def can_run(x: Tensor) -> bool:
    """Return whether the kernels can read `x`: in memory, of a type that they know, and not being traced."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False  # before sizes are asked for, which may be symbols
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and x.dim() == 4 and len(x) > 0


def has_hooks(module: nn.Module) -> bool:
    """Return whether a module or a part of it has hooks, which the kernels would not call."""
    return any(any(hooks_of(part)) for part in modules_of(module))


def is_known_norm(norm: nn.BatchNorm2d) -> bool:
    """Return whether a batch norm has all that kernels read: scale, shift and running statistics."""
    return norm.momentum is not None and norm.affine and norm.running_mean is not None


def modules_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield `module.modules()`, without its check for repeated modules, which takes longer than a kernel."""
    yield module
    for part in module.children():
        yield from modules_of(part)
