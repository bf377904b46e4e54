"""The plan of a study before it is run: MACs, parameters, seconds and state of every run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from analysis.text import count
from condense_core.config import RunConfig
from condense_core.cost import cost_table
from condense_core.store import FINISHED

if TYPE_CHECKING:
    from condense_core.store import RunStore

    from .study import Planned, Study
    from .variants import Variant

TIMED_STEPS = 3
EVALUATION_SHARE = 1 / 3  # of an image's training time: the forward pass alone


PLAN_COLUMNS = ("run", "variant", "to base", "seed", "MACs", "params", "seconds", "state")


def plan(study: Study, store: RunStore) -> list[dict[str, Any]]:
    """Return one row per run: variant, residual, seed, cost, state, estimated seconds in all and remaining.

    A run that waits for the tuning has no name yet.
    """
    planned = study.planned()
    states = {run.config.name: store.run(run.config).status["state"] for run in planned if run.is_known}
    seconds = _seconds_per_run(study, planned, store, states)
    rows = []
    for run in planned:
        variant, config, is_known = run.variant, run.config, run.is_known
        cost, state = cost_table(variant.model), states[config.name] if is_known else "waiting"
        rows.append(
            {
                "run": config.name if is_known else None,
                "variant": variant.label,
                "role": run.role,
                "values": dict(run.values),
                "residual": variant.residual,
                "seed": config.seed,
                "macs": cost.macs,
                "flops_paper": cost.flops_paper,
                "params": cost.params,
                "estimated_seconds": seconds[variant],
                "remaining_seconds": seconds[variant] * _share_left(config, store, state),
                "state": state,
            }
        )
    return rows


def plan_rows(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of a plan as texts under `PLAN_COLUMNS`."""
    return [
        (
            row["run"] or "named once settings are chosen",
            " ".join([row["variant"], *(f"{name}={value}" for name, value in row["values"].items())]),
            f"{100 * row['residual']:+.1f} %",
            str(row["seed"]),
            count(row["macs"]),
            count(row["params"]),
            f"{row['estimated_seconds']:.1f}",
            row["state"],
        )
        for row in rows
    ]


def _share_left(config: RunConfig, store: RunStore, state: str) -> float:
    """Return the fraction of a run to train: it resumes from a checkpoint shortly before its last epoch."""
    if state in FINISHED:
        return 0.0
    return 1.0 if state == "waiting" else 1 - len(store.run(config).epochs()) / config.recipe.epochs


def _seconds_per_run(
    study: Study, planned: list[Planned], store: RunStore, states: dict[str, str]
) -> dict[Variant, float]:
    """Return the mean of a variant's finished runs, or an estimate if it has none."""
    measured: dict[Variant, list[float]] = {}
    for run in planned:
        if run.is_known and states[run.config.name] == "done":
            measured.setdefault(run.variant, []).append(store.run(run.config).seconds())
    estimated = _estimates(study, {run.variant: run.config for run in planned if run.variant not in measured})
    return estimated | {variant: mean(values) for variant, values in measured.items()}


def _estimates(study: Study, configs: dict[Variant, RunConfig]) -> dict[Variant, float]:
    """Return the seconds that a run of each variant takes, by steps that are timed here."""
    if not configs:
        return {}
    seconds = _seconds_per_image(list(configs.values()), study.data.train_images)
    return {variant: seconds(run) * _images(study, run.recipe.epochs) for variant, run in configs.items()}


def _images(study: Study, epochs: int) -> float:
    """Return how many images a run sees; an evaluated one counts as the fraction of its time."""
    config, data = study.config, study.data
    validation = config.validation_fraction * data.train_images or data.test_images
    train = config.train_images or (1 - config.validation_fraction) * data.train_images
    evaluations = epochs + 2 * max(config.condense_factor)
    return epochs * train + EVALUATION_SHARE * (evaluations * validation + data.test_images)


def _seconds_per_image(configs: list[RunConfig], train_images: int) -> Callable[[RunConfig], float]:
    """Return seconds per training image by MACs: a line through the cheapest and the costliest, timed here."""

    def dense_macs(config: RunConfig) -> int:
        return cost_table(config.model, 0).macs

    low, high = (pick(configs, key=dense_macs) for pick in (min, max))
    base = _time_image(low, train_images)
    slope = 0.0
    if dense_macs(high) > dense_macs(low):
        slope = max(0.0, (_time_image(high, train_images) - base) / (dense_macs(high) - dense_macs(low)))
    return lambda config: base + slope * (dense_macs(config) - dense_macs(low))


def _time_image(config: RunConfig, train_images: int) -> float:
    """Return the median seconds of a training step on noise, per image."""
    import torch

    from condense_core.data import Augmentation, Dataset, DecodedImages, Normalisation
    from condense_core.training import Trainer

    torch.set_num_threads(config.threads)
    model, batch = config.model, min(config.recipe.batch_size, train_images)
    images = batch * (TIMED_STEPS + 1)
    pixels = torch.randint(256, (images, 3, model.image_size, model.image_size), dtype=torch.uint8)
    labels, normalisation = torch.arange(images) % model.num_classes, Normalisation((0.5,) * 3, (0.25,) * 3)
    noise = DecodedImages(pixels, labels, normalisation, Augmentation(0, flip=False))
    classes = tuple(map(str, range(model.num_classes)))
    recipe = dataclasses.replace(config.recipe, epochs=1, learning_rate=0.0, batch_size=batch)  # cannot diverge
    dataset = Dataset("noise", classes, noise, None, noise)
    trainer = Trainer(dataclasses.replace(config, recipe=recipe), dataset)
    return median(_step_seconds(trainer)[1:]) / batch  # the first step allocates


def _step_seconds(trainer: Any) -> list[float]:
    """Train a few steps and return the seconds of each."""
    times: list[float] = []
    last = time.perf_counter()

    def stop_after_some() -> bool:
        nonlocal last
        now = time.perf_counter()
        times.append(now - last)
        last = now
        return len(times) > TIMED_STEPS + 1

    for _ in trainer.run(stop_after_some):
        last = time.perf_counter()  # evaluations at a stage's entry are not steps
    return times
