"""Kernel of the group lasso: value and gradient in one call per layer."""

from __future__ import annotations

import numpy as np

from .compilation import kernel


@kernel
def lasso(weight, mask, permute, floor, norms, gradient):  # type: ignore[no-untyped-def]
    """Return Σ over groups and live inputs of ‖weight (O, I)‖; write its gradient. mask, norms (G, I)."""
    groups, inputs = mask.shape
    outputs, total = len(weight) // groups, 0.0
    # The square of each norm: over the outputs of a group, which are interleaved if outputs are permuted.
    norms[:] = 0
    for o in range(len(weight)):
        g = o % groups if permute else o // outputs
        for i in range(inputs):
            norms[g, i] += weight[o, i] * weight[o, i]
    # From here `norms` has 1 / norm, the factor of the gradient: 0 for pruned inputs and below the floor.
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
