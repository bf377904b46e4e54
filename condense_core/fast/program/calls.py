"""Kernel calls with their arguments, made once and run in every step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from condense_core.fast.layout import Array
from condense_core.fast.threads import share


class Calls:
    """Calls in their order; those that can be shared are, among as many threads as torch has now."""

    def __init__(self, training: bool):
        self.training = training
        self._threads = torch.get_num_threads()
        self._calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self.kernels: list[tuple[Callable[..., object], tuple[Any, ...]]] = []  # that the calls lead to

    def add(self, function: Callable[..., object], *arguments: Any) -> None:
        """Add a call."""
        self._calls.append((function, arguments))
        self.kernels.append((function, arguments))

    def share(
        self, kernel: Callable[..., None], count: int, *arguments: Any, summed: tuple[Array, ...] = ()
    ) -> None:
        """Add the call of a kernel on 0 … count−1; see `threads.share`."""
        if min(self._threads, count) == 1:
            self.add(kernel, *arguments, *summed, 0, count)
        else:
            self._calls.append((partial(share, summed=summed), (kernel, count, *arguments)))
            self.kernels.append((kernel, (*arguments, *summed, 0, count)))

    def run(self) -> None:
        """Run all calls."""
        for function, arguments in self._calls:
            function(*arguments)
