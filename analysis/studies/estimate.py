"""What a study will cost before it is run: MACs, parameters, seconds and state of every run."""

from __future__ import annotations

import dataclasses
import time
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from condense_core.config import RunConfig
from condense_core.cost import cost_table
from condense_core.store import FINISHED

if TYPE_CHECKING:
    from condense_core.store import Run, RunStore

    from .study import Study, Variant

TIMED_STEPS = 3
EVALUATION_SHARE = 1 / 3  # of an image's training time: the forward pass alone


def plan(study: Study, store: RunStore) -> list[dict[str, Any]]:
    """A row a run: variant, residual, seed, cost, state, estimated seconds of all of it and of what is left."""
    configs = [(variant, config, store.run(config)) for variant, config in study.run_configs()]
    states = {run.name: run.status["state"] for *_, run in configs}
    taken: dict[Variant, list[float]] = {}
    for variant, _, run in configs:
        if states[run.name] == "done":
            taken.setdefault(variant, []).append(run.seconds())
    estimated = _estimates(study, [variant for variant in study.variants if variant not in taken])
    seconds = estimated | {variant: mean(values) for variant, values in taken.items()}
    rows = []
    for variant, config, run in configs:
        cost = cost_table(variant.model)
        rows.append(
            {
                "run": run.name,
                "variant": variant.label,
                "role": variant.role,
                "residual": variant.residual,
                "seed": config.seed,
                "macs": cost.macs,
                "flops_paper": cost.flops_paper,
                "params": cost.params,
                "estimated_seconds": seconds[variant],
                "remaining_seconds": seconds[variant] * _share_left(config, run, states[run.name]),
                "state": states[run.name],
            }
        )
    return rows


def _share_left(config: RunConfig, run: Run, state: str) -> float:
    """The part of a run that is to be trained: it goes on from a checkpoint a little before its last epoch."""
    if state in FINISHED:
        return 0.0
    return 1 - len(run.epochs()) / config.recipe.epochs


def _estimates(study: Study, variants: list[Variant]) -> dict[Variant, float]:
    """Seconds of a run of variants that have none which could tell, timed here."""
    if not variants:
        return {}
    configs = {variant: config for variant, config in study.run_configs() if variant in variants}
    seconds, images = _seconds_per_image(list(configs.values()), study.data.train_images), _images(study)
    return {variant: seconds(config) * images for variant, config in configs.items()}


def _images(study: Study) -> float:
    """Images that a run sees, an evaluated one counted by the share of its time."""
    config, data = study.config, study.data
    validation = config.validation_fraction * data.train_images or data.test_images
    train = config.train_images or (1 - config.validation_fraction) * data.train_images
    evaluations = config.epochs + 2 * max(config.condense_factor)
    return config.epochs * train + EVALUATION_SHARE * (evaluations * validation + data.test_images)


def _seconds_per_image(configs: list[RunConfig], train_images: int) -> Any:
    """Seconds per training image by MACs: a line through the cheapest and the dearest, timed here."""

    def dense_macs(config: RunConfig) -> int:
        return cost_table(config.model, 0).macs

    low, high = (pick(configs, key=dense_macs) for pick in (min, max))
    base = _time_image(low, train_images)
    slope = 0.0
    if dense_macs(high) > dense_macs(low):
        slope = max(0.0, (_time_image(high, train_images) - base) / (dense_macs(high) - dense_macs(low)))
    return lambda config: base + slope * (dense_macs(config) - dense_macs(low))


def _time_image(config: RunConfig, train_images: int) -> float:
    """Median seconds of a training step on noise, per image."""
    import torch

    from condense_core.data import Augmentation, Dataset, DecodedImages, Normalisation
    from condense_core.training import Trainer

    torch.set_num_threads(config.threads)
    model, batch = config.model, min(config.recipe.batch_size, train_images)
    count = batch * (TIMED_STEPS + 1)
    pixels = torch.randint(256, (count, 3, model.image_size, model.image_size), dtype=torch.uint8)
    noise = DecodedImages(
        pixels,
        torch.arange(count) % model.num_classes,
        Normalisation((0.5,) * 3, (0.25,) * 3),
        Augmentation(0, flip=False),
    )
    classes = tuple(map(str, range(model.num_classes)))
    # noise must not diverge
    recipe = dataclasses.replace(config.recipe, epochs=1, learning_rate=0.0, batch_size=batch)
    trainer = Trainer(
        dataclasses.replace(config, recipe=recipe),
        Dataset("noise", classes, noise, None, noise),
    )
    return median(_step_seconds(trainer)[1:]) / batch  # the first step allocates


def _step_seconds(trainer: Any) -> list[float]:
    times: list[float] = []
    began = [time.perf_counter()]

    def tick() -> bool:
        now = time.perf_counter()
        times.append(now - began[0])
        began[0] = now
        return len(times) > TIMED_STEPS + 1

    for _ in trainer.run(tick):
        began[0] = time.perf_counter()  # evaluations at a stage's entry are not steps
    return times
