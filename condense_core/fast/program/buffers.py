"""Memory that the programs of a network share."""

from __future__ import annotations

from typing import Any

import numpy as np

from condense_core.fast.layout import Array


class Buffers:
    """Arrays by name that programs of one network share: none needs them once its step is done."""

    def __init__(self, dtype: Any):
        self._dtype = dtype
        self._arrays: dict[str, Array] = {}

    def __call__(self, name: str, *shape: int) -> Array:
        """Return unset numbers in this shape."""
        size = int(np.prod(shape))
        if name not in self._arrays or size > self._arrays[name].size:
            self._arrays[name] = np.empty(size, self._dtype)
        return self._arrays[name][:size].reshape(shape)
