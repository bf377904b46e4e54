"""Kernels on all parameters of a network at once, which lie in one array: gradients, lasso, descent."""

from __future__ import annotations

import numpy as np

from .compilation import kernel


@kernel
def collect(lanes, cells, places, sums, norm_places, gradients):  # type: ignore[no-untyped-def]
    """Write the gradients of weights, whose lanes (cells, 8) are summed up, and those of norms."""
    for i in range(len(places)):
        gradients[places[i]] = lanes[cells[i]].sum()
    for i in range(len(norm_places)):
        gradients[norm_places[i]] = sums[i]


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
