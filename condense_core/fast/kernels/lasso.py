"""The kernel of the group lasso: value and gradient."""

from __future__ import annotations

import numpy as np

from .compilation import kernel


@kernel
def lasso(weight, mask, permute, floor, norms, gradient):  # type: ignore[no-untyped-def]
    """Σ over groups and live inputs of the norm of weight (O, I), with its gradient; mask and norms (G, I)."""
    groups, inputs = mask.shape
    outputs, total = len(weight) // groups, 0.0
    norms[:] = 0
    for o in range(len(weight)):
        g = o % groups if permute else o // outputs
        for i in range(inputs):
            norms[g, i] += weight[o, i] * weight[o, i]
    for g in range(groups):
        for i in range(inputs):
            alive = mask[g, i] and norms[g, i] >= floor
            norm = np.sqrt(max(norms[g, i], floor))
            total += norm if mask[g, i] else 0.0
            norms[g, i] = 1 / norm if alive else 0.0
    for o in range(len(weight)):
        g = o % groups if permute else o // outputs
        for i in range(inputs):
            gradient[o, i] = weight[o, i] * norms[g, i]
    return total
