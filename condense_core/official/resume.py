"""Training that goes on here from an official checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from condense_core.cost import cost_table
from condense_core.grouping import MaskedConv, live_weights
from condense_core.model import CondenseNet
from condense_core.stages import stage_of

from .checkpoint import Checkpoint, read_checkpoint
from .load import SETTINGS, network_of
from .tensors import official_parts

if TYPE_CHECKING:
    from condense_core.events import Snapshot
    from condense_core.training import Trainer


def official_snapshot(path: str | Path, trainer: Trainer) -> Snapshot:
    """The state of an official masked checkpoint for `trainer.restore`: weights, masks, momentum, epoch, stage.

    Raises ValueError if the network is not the trainer's, or if no training is left to resume.
    """
    from condense_core.events import Snapshot

    config = trainer.config.model
    known = {name: getattr(config, name) for name in SETTINGS}
    checkpoint = read_checkpoint(path)
    model = network_of(checkpoint, **known)
    for name, value in vars(model.config).items():
        if name != "stem_stride" and value != getattr(config, name):
            raise ValueError(f"{path}: has {name} {value!r}, but the run has {getattr(config, name)!r}")
    epoch, epochs = checkpoint.rest.get("epoch"), trainer.config.recipe.epochs
    if not isinstance(epoch, int) or not 0 <= epoch < epochs - 1:
        raise ValueError(f"{path}: epoch {epoch!r} leaves nothing of the run's {epochs} epochs to train")
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= _momentum(checkpoint, model) | {"sums": torch.zeros(4, dtype=torch.float64)}
    step = (epoch + 1) * trainer.steps_per_epoch
    stages = [
        int(tensor.flatten()[0]) for name, tensor in checkpoint.tensors.items() if name.endswith("._stage")
    ]
    numbers = {"step": step, "stage": max(stages, default=0), "training_macs": _training_macs(trainer, step)}
    return Snapshot(tensors, numbers)


def _momentum(checkpoint: Checkpoint, model: CondenseNet) -> dict[str, Tensor]:
    optimizer, parts = checkpoint.rest.get("optimizer"), official_parts(model)
    if not isinstance(optimizer, Mapping) or not {"param_groups", "state"} <= optimizer.keys():
        raise ValueError(f"{checkpoint.path}: has no optimizer: training cannot go on from it")
    official = [name for name in checkpoint.tensors if name.endswith((".weight", ".bias"))]
    keys = [key for group in optimizer["param_groups"] for key in group["params"]]
    if len(keys) != len(official):
        raise ValueError(
            f"{checkpoint.path}: optimizer has {len(keys)} parameters, the network {len(official)}"
        )
    names = {parameter: f"momentum.{name}" for name, parameter in model.named_parameters()}
    momentum = {}
    for name, key in zip(official, keys, strict=True):
        part, _, kind = name.rpartition(".")
        parameter = getattr(parts[part], kind)
        buffer = optimizer["state"].get(key, {}).get("momentum_buffer")
        buffer = torch.zeros_like(parameter) if buffer is None else buffer
        if not isinstance(buffer, Tensor) or buffer.shape != parameter.shape:
            raise ValueError(f"{checkpoint.path}: the momentum of {name} has not the shape of its weight here")
        buffer = buffer.to(parameter)
        layer = parts[part]
        if isinstance(layer, MaskedConv):
            buffer = buffer * live_weights(layer)
        momentum[names[parameter]] = buffer.detach()
    return momentum


def _training_macs(trainer: Trainer, steps: int) -> int:
    """What training so far has cost on the trainer's schedule."""
    config, factor = trainer.config.model, trainer.config.model.last_stage + 1
    stages = [stage_of(Fraction(step, trainer.total_steps), factor) for step in range(steps)]
    images = len(trainer.dataset.train) / trainer.steps_per_epoch
    macs = [cost_table(config, stage).macs for stage in range(factor)]
    return round(3 * images * sum(stages.count(stage) * macs[stage] for stage in range(factor)))
