"""The tensors of a module as numpy arrays that share their memory, which kernels take."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from torch import nn

Array = np.ndarray

_KNOWN: WeakKeyDictionary[nn.Module, tuple[list[int], dict[str, Array]]] = WeakKeyDictionary()


def arrays(module: nn.Module) -> dict[str, Array]:
    """A module's own parameters and buffers by name, in their shape and strides.

    Kept, and made anew only where a tensor has moved: torch takes longer to make one than a kernel to run.
    """
    tensors = module._parameters | module._buffers
    places = [tensor.data_ptr() for tensor in tensors.values() if tensor is not None]
    known = _KNOWN.get(module)
    if known is None or known[0] != places:
        own = {name: tensor.detach().numpy() for name, tensor in tensors.items() if tensor is not None}
        known = _KNOWN[module] = places, own
    return known[1]
