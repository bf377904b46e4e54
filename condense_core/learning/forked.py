"""Condensation of a fork: a run that leaves another one at a stage's entry and decides otherwise."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from condense_core.config import RunConfig
from condense_core.grouping import live_weights
from condense_core.model import CondenseNet

from .condensation import Condensation

Masks = Mapping[str, Tensor]  # bool (groups, in_channels) of each layer that learns its groups


class ForkedCondensation(Condensation):
    """Prunes nothing in the stage `skipped`, and to given masks in the stages that have some.

    A connection that such a mask has, but that was dropped before the fork, grows again from zero.
    """

    skipped: int | None = None
    given: Mapping[int, Masks] = {}

    @torch.no_grad()
    def _prune(self, stage: int) -> None:
        if stage in self.given:
            self._take(self.given[stage])
        elif stage != self.skipped:
            super()._prune(stage)

    def _take(self, masks: Masks) -> None:
        for name, layer in self.layers.items():
            layer.mask.copy_(masks[name])
            for numbers in (layer.weight, *self._moments(layer.weight)):
                numbers.mul_(live_weights(layer))


def condensation_of(
    config: RunConfig, model: CondenseNet, optimizer: Optimizer, steps: int, given: Mapping[int, Masks]
) -> Condensation:
    """Return the condensation of a run in training for `steps`; `given` are the masks of each stage, if any."""
    recipe, fork = config.recipe, config.fork
    kind = ForkedCondensation if fork else Condensation
    condensation = kind(
        model, optimizer, steps, group_lasso=recipe.group_lasso,
        pruning=recipe.pruning, criterion=recipe.criterion, seed=config.seed,
    )  # fmt: skip
    if isinstance(condensation, ForkedCondensation):
        condensation.given = given
        condensation.skipped = fork.stage if fork and fork.skip_pruning else None
    return condensation
