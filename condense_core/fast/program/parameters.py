"""All parameters of a network in one array, so that gradients, lasso and descent are single calls."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD

from condense_core.fast.kernels import descent
from condense_core.fast.layout import NUMBERS, Array

ZERO = -1  # the place of a 0 after the last parameter: it fills up packed weights


class Parameters:
    """The parameters of a network, which become views of `values`; `gradients` are in the same order.

    Both are (P + 1,); a place is the number of a parameter's element.
    """

    def __init__(self, model: nn.Module):
        self._owners = list(model.parameters())
        count = sum(own.numel() for own in self._owners)
        self.values, self.gradients = np.zeros((2, count + 1), NUMBERS[self._owners[0].dtype])
        self._momenta, self._views = np.zeros(0), list[tuple[dict[str, Tensor], Tensor]]()
        self._state: object = None  # of the optimizer whose momenta these are
        self._places: dict[Tensor, Array] = {}
        for own, (first, end) in zip(self._owners, self._ends(), strict=True):
            self._places[own] = np.arange(first, end).reshape(own.shape)
            own.data = _moved(own.detach(), self.values[first:end])

    def places(self, own: Tensor) -> Array:
        """Return the places of a parameter's elements, in its shape."""
        return self._places[own]

    def of(self, own: Tensor) -> tuple[Array, Array]:
        """Return a parameter's values and gradients, as views."""
        first, end = self._places[own].flat[0], self._places[own].flat[-1] + 1
        return self.values[first:end].reshape(own.shape), self.gradients[first:end].reshape(own.shape)

    def descend(self, optimizer: SGD) -> None:
        """Take the step that the optimizer would take; its momenta become views of an array, too."""
        settings = optimizer.param_groups[0]
        if optimizer.state is not self._state or not all(
            own["momentum_buffer"] is view for own, view in self._views
        ):
            self._take(optimizer)
        rates = settings["lr"], settings["momentum"], settings["weight_decay"]
        descent.descend(self.values, self.gradients, self._momenta, *rates)

    def _take(self, optimizer: SGD) -> None:
        self._state, self._views = optimizer.state, []
        self._momenta = np.zeros_like(self.values[:-1])
        for own, (first, end) in zip(self._owners, self._ends(), strict=True):
            state = optimizer.state[own]
            state["momentum_buffer"] = _moved(state["momentum_buffer"], self._momenta[first:end])
            self._views.append((state, state["momentum_buffer"]))

    def _ends(self) -> list[tuple[int, int]]:
        """Return the first and the last place (exclusive) of every parameter."""
        ends = np.cumsum([own.numel() for own in self._owners]).tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))


def _moved(tensor: Tensor, place: Array) -> Tensor:
    """Return a copy of a tensor in its place in an array."""
    return torch.from_numpy(place).view(tensor.shape).copy_(tensor)
