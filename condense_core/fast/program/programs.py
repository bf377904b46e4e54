"""The programs of a network: one for each shape of batches, made anew when a stage begins."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD

from condense_core.fast.conditions import can_run
from condense_core.fast.kernels.compilation import compiled
from condense_core.fast.watched import Watched
from condense_core.looking import evaluating
from condense_core.model import CondenseNet

from .network import Network
from .obstacles import obstacle
from .program import Program

EVALUATED = 64  # images at a time: memory is that of a training step


class Programs:
    """Trains and evaluates a network by programs, which take its parameters into an array of their own.

    They are made anew when a mask, a tensor's place, a module or the number of threads has changed. What they
    cannot compute is left to the reference, which is said once.
    """

    def __init__(self, model: CondenseNet):
        self._model = model
        self._watched: Watched | None = None
        self._network: Network | None = None
        self._made: dict[tuple[int, int, bool], Program] = {}
        self._said: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return Programs, (
            self._model,
        )  # a copied network has other tensors, so its programs keep nothing of these

    def compile(self, batch_size: int) -> Iterator[tuple[int, int]]:
        """Make the kernels of training and evaluation ready, as the first step would; see `compiled`."""
        size, dtype = self._model.config.image_size, self._model.stem.weight.dtype
        network = self._current(torch.empty(batch_size, 3, size, size, dtype=dtype), training=True)
        if network is not None:
            shapes = (batch_size, size, True), (EVALUATED, size, False)
            self._made = {shape: Program(network, *shape) for shape in shapes}
            yield from compiled(call for program in self._made.values() for call in program.kernels)

    def train(
        self, images: Tensor, labels: Tensor, optimizer: SGD, lasso: float = 0.0
    ) -> tuple[float, int, float] | None:
        """Take a step of descent of the mean cross-entropy and of the group lasso times `lasso`.

        Return the one, the number of wrong answers, and the other; None if the reference must take the step.
        """
        if (network := self._current(images, training=True)) is None:
            return None
        loss, wrong = self._program(network, images, training=True).loss(images, labels)
        penalty = network.lasso.add_gradient(lasso) if lasso else 0.0
        network.parameters.descend(optimizer)
        return loss, wrong, penalty

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of images as in evaluation mode, by the reference if it must be."""
        network = None if torch.is_grad_enabled() else self._current(images, training=False)
        if network is None:
            with evaluating(self._model):
                return self._model(images)
        parts = [self._program(network, part, training=False).logits(part) for part in images.split(EVALUATED)]
        return torch.from_numpy(np.concatenate(parts))

    def _current(self, images: Tensor, training: bool) -> Network | None:
        """Return the network as it is now; None if something keeps programs from computing these images."""
        if self._watched is None or self._watched.has_changed():
            fault = obstacle(self._model)
            if fault is not None and fault not in self._said:
                self._said.add(fault)
                warnings.warn(f"execution 'fast' cannot compute {fault}: the reference does", stacklevel=4)
            self._network = None if fault else Network(self._model)
            self._made = {}
            self._watched = Watched(self._model)
        fits = images.dtype == self._model.stem.weight.dtype and can_run(images)
        fits = fits and images.shape[2] == images.shape[3] == self._model.config.image_size
        fits = fits and (not training or self._watched.modes() == {True})
        return self._network if fits else None

    def _program(self, network: Network, images: Tensor, training: bool) -> Program:
        key = len(images), images.shape[2], training
        if key not in self._made:
            program = Program(network, *key[:2], training)
            if not self._made:  # later ones call the same kernels
                list(compiled(program.kernels))
            self._made[key] = program
        return self._made[key]
