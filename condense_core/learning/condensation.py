"""Condensation in any training loop: when stages begin, what they prune, and the lasso before them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from condense_core.condensation import (
    Learned,
    group_lasso,
    learned_layers,
    prune,
)
from condense_core.config import AT_ONCE, PRUNINGS, Pruning
from condense_core.distributed import of_first_rank
from condense_core.files import nearest
from condense_core.grouping import live_weights
from condense_core.looking import unwrapped
from condense_core.model import CondenseNet
from condense_core.randomness import generator
from condense_core.stages import kept_in_stage, layer_stage, stage_of
from condense_core.tables import CRITERIA

from .criteria import input_norms, scores

Observer = Callable[[int], AbstractContextManager[object]]  # of a stage


class Condensation:
    """Prunes the learned groups of a network in stages while it trains (paper Sec. 3.1).

    `step` follows each step of the optimizer, of which the training has `steps`; the loss gets `penalty`.
    A dropped connection has no gradient, because the mask stands in the layer's forward pass; entering a stage
    clears its weights and their moments in the optimizer, and `step` clears the weights of those optimizers
    that move weights without a gradient. All ranks of a distributed training prune by rank 0's scores.
    `observers` are entered with each stage, before it is pruned, and left after that.

    Raise ValueError if no layer of the model learns groups, or the optimizer lacks the weight of one that does.

    >>> from condense_core import learn_groups
    >>> model = nn.Sequential(nn.Conv2d(16, 8, 1))
    >>> _ = learn_groups(model)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> condensation = Condensation(model, optimizer, steps=4)
    >>> for _ in range(4):  # an optimizer's step stands before each
    ...     condensation.step()
    ...     print(condensation.stage, model[0].mask.sum(1).tolist())
    1 [12, 12, 12, 12]
    3 [4, 4, 4, 4]
    3 [4, 4, 4, 4]
    3 [4, 4, 4, 4]
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        steps: int,
        *,
        group_lasso: float = 1e-5,
        pruning: Pruning = "condensing",
        criterion: str = "l1",
        seed: int = 0,
    ):
        _check_settings(steps, group_lasso, pruning)
        self.model, self.optimizer = unwrapped(model), optimizer
        self.layers = learned_layers(self.model)
        self.last_stage = _last_stage(self.model, self.layers)
        _check_optimizer(optimizer, self.layers)
        self._norms = _norms(self.model, criterion)
        self.steps, self.group_lasso, self.pruning = steps, group_lasso, pruning
        self.criterion, self.seed = criterion, seed
        self.done, self.stage = 0, -1  # steps so far; no stage has begun
        self.observers: list[Observer] = []

    @property
    def lasso_weight(self) -> float:
        """The weight of the group lasso in the loss: 0 in the last stage."""
        return self.group_lasso if self.stage < self.last_stage else 0.0

    def penalty(self) -> Tensor:
        """Return what the group lasso adds to the loss (Eq. 2): a scalar, 0 in the last stage."""
        if self.lasso_weight:
            return self.lasso_weight * group_lasso(self.model)
        return next(self.model.parameters()).new_zeros(())

    def step(self) -> None:
        """Count a step that the optimizer has taken, and enter the stages that are due.

        Raise ValueError past the last step.
        """
        if self.done >= self.steps:
            raise ValueError(f"step {self.done + 1}: the training has {self.steps} steps")
        self.done += 1
        self._clear_weights()
        while (stage := self.due()) is not None:
            self.enter(stage)

    def due(self) -> int | None:
        """Return the next stage to enter, or None; progress may have jumped over it.

        Pruning one-shot or at the start goes to the last stage at once.
        """
        due = stage_of(Fraction(self.done, self.steps), self.last_stage + 1, self.pruning)
        if self.stage >= due:
            return None
        return due if self.pruning in AT_ONCE else self.stage + 1

    @torch.no_grad()
    def enter(self, stage: int) -> None:
        """Prune to a stage, which must be the one that is `due`; else raise ValueError."""
        if stage != (due := self.due()):
            raise ValueError(f"stage {stage}: " + ("none is due" if due is None else f"stage {due} is due"))
        with ExitStack() as observed:
            for observer in self.observers:
                observed.enter_context(observer(stage))
            self._prune(stage)
            self.stage = stage

    def _prune(self, stage: int) -> None:
        """Drop the connections that the network has no more in a stage."""
        draws = generator(self.seed, "pruning", stage)
        ranked = {  # by rank 0: on machines that differ, the last bit of a score may differ too
            name: of_first_rank(scores(layer, self.criterion, self._norms.get(name), draws))
            for name, layer in self.layers.items()
        }
        for name, layer in self.layers.items():
            reached = layer_stage(stage, self.last_stage, layer.condense_factor)
            prune(layer, reached, scores=ranked[name])
            for moment in self._moments(layer.weight):
                moment.mul_(live_weights(layer))

    def _moments(self, weight: Tensor) -> Iterator[Tensor]:
        """Yield what the optimizer keeps for each number of a weight: momentum, or Adam's moments."""
        for kept in self.optimizer.state.get(weight, {}).values():
            if isinstance(kept, Tensor) and kept.shape == weight.shape:
                yield kept

    @torch.no_grad()
    def _clear_weights(self) -> None:
        if self.stage > 0:
            for layer in self.layers.values():
                layer.weight.mul_(live_weights(layer))

    def state_dict(self) -> dict[str, Any]:
        """Return the place in training; the masks are in the model's own state."""
        return {"steps": self.steps, "pruning": self.pruning, "done": self.done, "stage": self.stage}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a place in training; the model's own state is loaded first.

        Raise ValueError if the state is of another training, or the masks are not those of its stage.
        """
        for name in ("steps", "pruning"):
            if state.get(name) != (own := getattr(self, name)):
                raise ValueError(f"{name} {own!r}: the state is of a training with {state.get(name)!r}")
        for name, layer in self.layers.items():
            if int(layer.mask.sum()) != self._live(layer, max(state["stage"], 0)):
                raise ValueError(
                    f"stage {state['stage']}: {name} is not pruned so; load the model's state first"
                )
        self.done, self.stage = state["done"], state["stage"]

    def reached(self) -> int:
        """Return the stage that the masks are in, from 0 on: an earlier one where `stage` pruned nothing."""
        stage = max(self.stage, 0)
        while any(self._live(layer, stage) < int(layer.mask.sum()) for layer in self.layers.values()):
            stage -= 1
        return stage

    def pass_over(self) -> None:
        """Take due stages as done that ask for more connections than are left, as after another schedule."""
        while (due := self.due()) is not None and any(
            self._live(layer, due) > int(layer.mask.sum()) for layer in self.layers.values()
        ):
            self.stage = due

    def _live(self, layer: Learned, stage: int) -> int:
        """Return how many connections a layer has in a stage."""
        inputs, factor = layer.mask.shape[1], layer.condense_factor
        return layer.groups * kept_in_stage(inputs, factor, stage, self.last_stage, learned=True)


def _check_settings(steps: int, group_lasso: float, pruning: str) -> None:
    if type(steps) is not int or steps < 1:
        raise ValueError(f"steps {steps!r}: must be a whole number, at least 1")
    if type(group_lasso) not in (int, float) or not 0 <= group_lasso < math.inf:
        raise ValueError(f"group_lasso {group_lasso!r}: must be a number, at least 0")
    if pruning not in PRUNINGS:
        raise ValueError(f"pruning {pruning!r}: {nearest(pruning, PRUNINGS)}")


def _last_stage(model: nn.Module, layers: Mapping[str, Learned]) -> int:
    """Return the last stage of a network: 0 in a CondenseNet that learns nothing."""
    if isinstance(model, CondenseNet):
        return model.config.last_stage
    if not layers:
        raise ValueError(
            f"no layer of the {type(model).__name__} learns groups; call learn_groups(model) first"
        )
    return max(layer.condense_factor for layer in layers.values()) - 1


def _check_optimizer(optimizer: Optimizer, layers: Mapping[str, Learned]) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer {type(optimizer).__name__}: must be a torch.optim.Optimizer")
    known = {id(own) for group in optimizer.param_groups for own in group["params"]}
    if missing := [name for name, layer in layers.items() if id(layer.weight) not in known]:
        text = f"optimizer: lacks the weights of {len(missing)} layers that learn groups, such as {missing[0]}"
        raise ValueError(text)


def _norms(model: nn.Module, criterion: str) -> dict[str, nn.BatchNorm2d]:
    """Return the batch norms of the layers' inputs, which only a CondenseNet is known to have."""
    needed = CRITERIA[criterion].reads_norm
    if isinstance(model, CondenseNet):
        return input_norms(model)
    if needed:
        raise ValueError(
            f"criterion {criterion!r}: needs a CondenseNet, where a batch norm precedes each layer"
        )
    return {}
