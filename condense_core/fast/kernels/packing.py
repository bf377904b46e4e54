"""Pack weights in the order in which kernels read them, and unpack the gradients that kernels sum up.

These are kernels because numpy needs a dozen calls for each, which cost more than the kernels of a small
network.
"""

from __future__ import annotations

from .compilation import kernel


@kernel
def pack(weight, rows, index, packed):  # type: ignore[no-untyped-def]
    """Pack a 1×1 convolution's weight (O, I) for `pointwise`: rows (G, M), index (G, K) → (G, M / 4, K, 4)."""
    groups, outputs = rows.shape
    for g in range(groups):
        for m in range(outputs):
            o = rows[g, m]
            for k in range(index.shape[1]):
                packed[g, m // 4, k, m % 4] = weight[max(o, 0), index[g, k]] if o >= 0 else 0.0


@kernel
def pack_transposed(weight, rows, index, packed):  # type: ignore[no-untyped-def]
    """Pack it for `pointwise_backward`: (G, K / 4, M, 4), K filled up with zeros."""
    groups, outputs = rows.shape
    packed[:] = 0
    for g in range(groups):
        for m in range(outputs):
            o = rows[g, m]
            if o >= 0:
                for k in range(index.shape[1]):
                    packed[g, k // 4, m, k % 4] = weight[o, index[g, k]]


@kernel
def unpack(lanes, rows, index, gradient):  # type: ignore[no-untyped-def]
    """Sum up the lanes of `pointwise_backward` to the gradient (O, I); 0 for inputs that are not read."""
    groups, outputs = rows.shape
    gradient[:] = 0
    for g in range(groups):
        for m in range(outputs):
            o = rows[g, m]
            if o >= 0:
                for k in range(index.shape[1]):
                    gradient[o, index[g, k]] = lanes[g, k // 2, m // 4, m % 4, k % 2].sum()


@kernel
def pack_taps(weight, packed):  # type: ignore[no-untyped-def]
    """Pack a 3×3 convolution's weight (O, I, 3, 3) for `spatial`: (G, M / R, 9·I, R), M filled with zeros."""
    groups, _, _, rows = packed.shape
    outputs = len(weight) // groups
    packed[:] = 0
    for o in range(len(weight)):
        g, m = o // outputs, o % outputs
        for i in range(weight.shape[1]):
            for tap in range(9):
                packed[g, m // rows, 9 * i + tap, m % rows] = weight[o, i, tap // 3, tap % 3]


@kernel
def pack_taps_transposed(weight, packed):  # type: ignore[no-untyped-def]
    """Pack it for `spatial_backward`: (G, I / 4, 9·M, 4), the taps in reverse."""
    groups = len(packed)
    outputs = len(weight) // groups
    packed[:] = 0
    for o in range(len(weight)):
        g, m = o // outputs, o % outputs
        for i in range(weight.shape[1]):
            for tap in range(9):
                packed[g, i // 4, 9 * m + 8 - tap, i % 4] = weight[o, i, tap // 3, tap % 3]


@kernel
def unpack_taps(lanes, gradient):  # type: ignore[no-untyped-def]
    """Sum up the lanes of `spatial_backward` to the gradient (O, I, 3, 3)."""
    groups = len(lanes)
    outputs = len(gradient) // groups
    for o in range(len(gradient)):
        g, m = o // outputs, o % outputs
        for i in range(gradient.shape[1]):
            for tap in range(9):
                entry = 9 * i + tap
                gradient[o, i, tap // 3, tap % 3] = lanes[g, m // 2, entry // 4, m % 2, entry % 4].sum()
