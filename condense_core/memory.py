"""Room for features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

NUMBERS = {torch.float32: np.float32, torch.float64: np.float64}
"""What numpy calls the numbers that kernels know."""


def empty(*shape: int, dtype: torch.dtype) -> Tensor:
    """A tensor of unset numbers, in numpy's memory.

    It keeps small pieces and asks for large pages, where torch's `empty` costs a fault for every 4 KB.
    """
    return torch.from_numpy(np.empty(shape, NUMBERS[dtype]))
