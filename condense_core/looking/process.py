"""What torch, numpy and Python keep for the whole process: generators, default type, threads, flags."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def same_draws() -> Iterator[None]:
    """Give the global generators of torch, numpy and Python the state back that they had before the block."""
    cpu, on_gpus = torch.get_rng_state(), _gpu_states()
    of_numpy, of_python = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        for device, state in on_gpus.items():
            torch.cuda.set_rng_state(state, device)
        np.random.set_state(of_numpy)
        random.setstate(of_python)


def _gpu_states() -> dict[int, torch.Tensor]:
    """Return the state of every GPU's generator; none if no GPU was used yet: asking would start them."""
    if not torch.cuda.is_initialized():
        return {}
    return {device: torch.cuda.get_rng_state(device) for device in range(torch.cuda.device_count())}


@contextmanager
def same_process() -> Iterator[None]:
    """Let the block change neither generators nor settings of the process."""
    before = [read() for read, _ in _SETTINGS]
    try:
        with same_draws():
            yield
    finally:
        for (read, write), value in zip(_SETTINGS, before, strict=True):
            if read() != value:
                write(value)


def _read_determinism() -> tuple[bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def _write_determinism(both: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(both[0], warn_only=both[1])


def _flag(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (_read_determinism, _write_determinism),
    *(_flag(torch.backends.cudnn, name) for name in ("deterministic", "benchmark", "allow_tf32")),
    _flag(torch.backends.cuda.matmul, "allow_tf32"),
)
"""How each setting is read and written."""
