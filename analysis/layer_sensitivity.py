"""How sensitive each layer of a run is: pruned alone, without training, from the states that the run kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis import frames
from analysis.engines import load_data
from analysis.frames import reading_layers, typed
from analysis.networks import load_run_at
from condense_core.looking import same_process
from condense_core.store import Run, RunHeld, by_layer

if TYPE_CHECKING:
    from torch import Tensor

    from condense_core import CondenseNet
    from condense_core.evaluation import Evaluation

PARTS = 8  # a layer loses 1/8, 2/8, … 7/8 of its inputs
STATISTICS_IMAGES = 512  # of training, from which the batch norms' statistics are taken anew


def layer_sensitivity(run: Run, data_dir: Path, images: int | None = None) -> pd.DataFrame:
    """Return the error of a run's dense network with each layer that learned its groups pruned alone.

    Every group loses a share of its inputs, the least important first; a share of 0 is the network as it was.
    `images` of the curves' split are read (default: all). Raises ValueError if the run has no such layers, and
    FileNotFoundError if it keeps no state from before it was pruned.
    """
    model, look = load_run_at(run, first_pruning(run)), _Look(run, data_dir, images)
    with same_process():
        return typed("sensitivity", pd.DataFrame(list(_rows(run, model, look))))


def kept_sensitivity(run: Run, data_dir: Path, keep: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `layer_sensitivity` and `statistics_at_steps` on all images, as the run's folder has them.

    If it has none, they are taken now, and with `keep` they are written there.
    """
    if run.sensitivity():
        return frames.sensitivity(run), frames.statistics(run)
    steps, layers = statistics_at_steps(run, data_dir), layer_sensitivity(run, data_dir)
    if keep:
        with suppress(RunHeld), run.hold() as writer:  # whoever trains it goes on
            rows = {"layers": layers, "steps": steps}
            writer.keep_sensitivity(
                {name: own.drop(columns="run").to_dict("records") for name, own in rows.items()}
            )
    return layers, steps


def statistics_at_steps(run: Run, data_dir: Path, images: int | None = None) -> pd.DataFrame:
    """Return each pruning step's error with the batch norms' statistics as they were, and taken anew.

    One row per step: the network before it, and with the masks of its stage. The error that statistics taken
    anew take away was not that of the connections. Raises as `layer_sensitivity` does.
    """
    first_pruning(run)
    look, rows = _Look(run, data_dir, images), []
    with same_process():
        for record in run.stages():
            if record["stage"]:
                model = load_run_at(run, record["stage"])
                before = look.at(model)
                _mask(model, by_layer("mask", run.stage_tensors(record)))
                rows.append(
                    {"run": run.name, "stage": str(record["stage"]), **_steps_row(before, look.at(model))}
                )
    return typed("statistics", pd.DataFrame(rows))


def first_pruning(run: Run) -> int:
    """Return the stage of a run's first pruning step. Raise ValueError if no layer learns its groups."""
    model = run.config.model
    if not model.last_stage:
        raise ValueError(f"run {run.name}: no layer learns its groups (grouping {model.grouping!r})")
    return min((one.stage for one in run.checkpoints() if one.stage), default=1)


class _Look:
    """Evaluates a network on images of a run's curves, with its norms' statistics as they are, and anew."""

    def __init__(self, run: Run, data_dir: Path, images: int | None):
        from condense_core.data import spread

        data = load_data(run.config.data, data_dir, run.config.seed)
        self.images = spread(data.curve_images, images or len(data.curve_images))
        self.training = spread(data.train, STATISTICS_IMAGES)
        self.threads = run.config.threads

    def at(self, model: CondenseNet) -> tuple[Evaluation, Evaluation]:
        """Return both evaluations; the model is unchanged."""
        import torch

        from condense_core.evaluation import evaluate
        from condense_core.looking import unchanged

        torch.set_num_threads(self.threads)
        found = evaluate(model, self.images.evaluation_batches())
        with unchanged(model):
            self._take_statistics(model)
            return found, evaluate(model, self.images.evaluation_batches())

    def _take_statistics(self, model: CondenseNet) -> None:
        import torch
        from torch import nn

        norms = [module for module in model.eval().modules() if isinstance(module, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        with torch.no_grad():
            for batch, _ in self.training.evaluation_batches():
                model(batch)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _rows(run: Run, model: CondenseNet, look: _Look) -> Iterator[dict[str, Any]]:
    from condense_core.condensation import learned_layers, prune

    learned, unpruned = learned_layers(model), look.at(model)
    for place in reading_layers(run.config.model):
        layer = learned[place.module]
        kept, factor = {name: own.clone() for name, own in layer.state_dict().items()}, layer.condense_factor
        layer.condense_factor = PARTS
        for part in range(PARTS):
            prune(layer, part)
            alive = int(layer.mask.sum()) / layer.mask.numel()
            shares = {"share": part / PARTS, "alive": alive}
            errors = _errors(*(look.at(model) if part else unpruned))
            yield {"run": run.name, **place.columns, **shares, **errors}
            layer.load_state_dict(kept)
        layer.condense_factor = factor


def _errors(found: Evaluation, anew: Evaluation) -> dict[str, float]:
    return {
        "loss": found.loss,
        "error_percent": found.error_percent,
        "loss_anew": anew.loss,
        "error_percent_anew": anew.error_percent,
    }


def _steps_row(before: tuple[Evaluation, Evaluation], after: tuple[Evaluation, Evaluation]) -> dict[str, float]:
    return {
        "error_before": before[0].error_percent,
        "error_before_anew": before[1].error_percent,
        "error_after": after[0].error_percent,
        "error_after_anew": after[1].error_percent,
    }


def _mask(model: CondenseNet, masks: Mapping[str, Tensor]) -> None:
    """Give a network the masks of a stage."""
    from condense_core.grouping import masked_layers

    for name, layer in masked_layers(model).items():
        layer.mask.copy_(masks[name])
