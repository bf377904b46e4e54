"""Kernels on all parameters of a network at once, which lie in one array: gradients, lasso, descent."""

from __future__ import annotations

import numpy as np

from .compilation import kernel


@kernel
def pack(values, places, packed):  # type: ignore[no-untyped-def]
    """Bring weights into the order in which kernels read them; the last value is a 0, whose place is −1."""
    zero = len(values) - 1
    for i in range(len(places)):
        packed[i] = values[places[i] if places[i] >= 0 else zero]


@kernel
def collect(lanes, cells, places, gradients):  # type: ignore[no-untyped-def]
    """Add up the lanes (cells, 8) of a convolution's gradients, write these, and set the lanes to 0 again."""
    for i in range(len(places)):
        gradients[places[i]] = lanes[cells[i]].sum()
    lanes[:] = 0


@kernel
def collect_norms(sums, places, gradients):  # type: ignore[no-untyped-def]
    """Write the gradients of all norms, and set their sums to 0 again."""
    for i in range(len(places)):
        gradients[places[i]] = sums[i]
    sums[:] = 0


@kernel
def lasso(values, places, members, squares, floor, factor, gradients):  # type: ignore[no-untyped-def]
    """Return Σ over sets of weights of `factor` · ‖W‖, and add its gradient.

    Weight places[i] is in set members[i]; squares (sets,) is overwritten.
    """
    total = 0.0
    squares[:] = 0
    for i in range(len(places)):
        squares[members[i]] += values[places[i]] * values[places[i]]
    # From here it has the factors of the gradient, which is 0 below the floor.
    for s in range(len(squares)):
        norm = np.sqrt(max(squares[s], floor))
        total += norm
        squares[s] = factor / norm if squares[s] >= floor else 0.0
    for i in range(len(places)):
        gradients[places[i]] += squares[members[i]] * values[places[i]]
    return factor * total


@kernel
def descend(values, gradients, momenta, rate, momentum, decay):  # type: ignore[no-untyped-def]
    """A step of stochastic gradient descent with Nesterov's momentum, as `torch.optim.SGD` takes it."""
    number = values.dtype.type
    rate_, momentum_, decay_ = number(rate), number(momentum), number(decay)
    for i in range(len(momenta)):
        gradient = gradients[i] + decay_ * values[i]
        momenta[i] = momentum_ * momenta[i] + gradient
        values[i] -= rate_ * (gradient + momentum_ * momenta[i])
