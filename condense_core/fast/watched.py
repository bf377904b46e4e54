"""A network, watched for what changes between two calls of the kernels, and engines that keep its programs."""

from __future__ import annotations

from itertools import chain
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor, nn

from .conditions import hooks_of, modules_of

_TRAINING, _TAKES, _VERSION = map(attrgetter, ("training", "requires_grad", "_version"))
_SETTINGS = attrgetter("momentum", "eps")


class Watched:
    """A network, watched for whatever changes its programs: in inference also the `values` of its tensors."""

    def __init__(self, model: nn.Module, values: bool = False):
        self._modules, self._parameters = list(modules_of(model)), list(model.parameters())
        tables = [(part._modules, part._parameters, part._buffers) for part in self._modules]
        self._owners = [table for some in tables for table in some if table]
        self._hooks = [hooks for part in self._modules for hooks in hooks_of(part)]
        masks = [part.mask for part in self._modules if "mask" in part._buffers]
        tensors = [*self._parameters, *model.buffers()]
        self._placed: list[Any] = tensors if values else self._parameters
        self._read_once: list[Any] = tensors if values else masks
        self._norms = [part for part in self._modules if isinstance(part, nn.BatchNorm2d)]
        self._objects, self._numbers = self._read()

    @property
    def learns(self) -> bool:
        """Whether a parameter takes gradients."""
        return any(map(_TAKES, self._parameters))

    def modes(self) -> set[bool]:
        """Return whether norms are in training: both, if some are frozen."""
        return set(map(_TRAINING, self._norms))

    def has_changed(self) -> bool:
        """Return whether modules, hooks, tensors that were read or the number of threads have changed."""
        objects, numbers = self._read()
        same = len(objects) == len(self._objects) and all(map(is_, objects, self._objects))
        return not same or numbers != self._numbers

    def _read(self) -> tuple[list[object], list[object]]:
        objects: list[object] = list(chain.from_iterable(own.values() for own in self._owners))
        settings = [torch.get_num_threads(), *map(len, self._hooks), *map(_SETTINGS, self._norms)]
        numbers = [*settings, *map(_TAKES, self._parameters)]
        return objects, [*numbers, *map(Tensor.data_ptr, self._placed), *map(_VERSION, self._read_once)]


class Engine:
    """Computes a condensed network or a part of it in evaluation mode; keeps programs while nothing changes."""

    def __init__(self) -> None:
        self._watched: Watched | None = None
        self._is_known = False
        self._programs: dict[Any, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()  # a copied network has other tensors, so its engine keeps nothing of these

    def can_compute(self, module: nn.Module, x: Tensor) -> bool:
        """Return False in training, for gradients, with hooks, and with modules that kernels do not know."""
        if self._watched is None or self._watched.has_changed():
            self._watched, self._programs = Watched(module, values=True), {}
            self._is_known = self.knows(module)
        learns = torch.is_grad_enabled() and (x.requires_grad or self._watched.learns)
        return self._is_known and not learns and not module.training and self._watched.modes() == {False}

    def knows(self, module: Any) -> bool:
        """Return whether kernels can compute all of its modules, and no hooks would be passed over."""
        raise NotImplementedError
