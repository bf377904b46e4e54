"""A network, watched for what changes between two calls of the kernels."""

from __future__ import annotations

from itertools import chain
from operator import attrgetter, is_

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
        self._read_once = [*self._parameters, *model.buffers()] if values else masks
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
        settings = [torch.get_num_threads(), any(self._hooks), *map(_SETTINGS, self._norms)]
        numbers = [*settings, *map(_TAKES, self._parameters)]
        return objects, [*numbers, *map(Tensor.data_ptr, self._parameters), *map(_VERSION, self._read_once)]
