"""How long a training step takes: some are timed here on noise, of a smaller network if it is large."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from condense_core.config import ModelConfig, RunConfig
from condense_core.cost import cost_table

from .matching import width_step

TIMED_STEPS = 3
MAX_STEP_MACS = 2_500_000_000  # of a timed step, forward and backward: about half a second
MAX_STEP_LAYERS = 60
MAX_STEP_NUMBERS = 20_000_000  # in the images of a timed step
FEW_IMAGES = 4  # a batch is not cut further; then the network is
MAX_FACTOR = 4  # stages that are entered while steps are timed


@dataclass(frozen=True)
class StepTime:
    """Seconds of a training step per image; extrapolated by MACs if the network is too large to be timed."""

    seconds: float
    is_extrapolated: bool


def time_image(config: RunConfig, train_images: int) -> StepTime:
    """Time training steps on noise, within seconds for any network; nothing of the process changes."""
    from condense_core.looking import same_process

    batch = min(config.recipe.batch_size, train_images)
    batch = max(min(batch, FEW_IMAGES), min(batch, MAX_STEP_MACS // _step_macs(config.model, 1)))
    own = dataclasses.replace(config.model, condense_factors=None)  # its dense steps are timed
    model = _timed_network(own, batch)
    with same_process():
        seconds = _time_steps(dataclasses.replace(config, model=model), batch)
    if model == own:
        return StepTime(seconds, False)
    return StepTime(seconds * dense_macs(config.model) / dense_macs(model), True)


def dense_macs(model: ModelConfig) -> int:
    """Return the MACs of a network before anything is pruned."""
    return cost_table(model, 0).macs


def _step_macs(model: ModelConfig, images: int) -> int:
    return 3 * images * dense_macs(model)  # the backward pass costs two forward ones


def _timed_network(model: ModelConfig, images: int) -> ModelConfig:
    """Return a network, or one with fewer or narrower layers whose step is quick enough to be timed."""
    while not _is_quick(model, images):
        smaller = next(_halved(model), None)
        if smaller is None:
            break
        model = smaller
    return model


def _is_quick(model: ModelConfig, images: int) -> bool:
    numbers = 3 * images * model.image_size**2
    few = sum(model.stages) <= MAX_STEP_LAYERS and numbers <= MAX_STEP_NUMBERS
    return few and _step_macs(model, images) <= MAX_STEP_MACS


def _halved(model: ModelConfig) -> Iterator[ModelConfig]:
    """Yield the network with half as many layers, half the width, or half the image, if there is such a one."""
    step = width_step(model)
    halves: tuple[dict[str, Any], ...] = (
        {"stages": tuple(max(1, layers // 2) for layers in model.stages)},
        {"growth": tuple(step * max(1, rate // 2 // step) for rate in model.growth)},
        {"bottleneck": max(1, model.bottleneck // 2)},
        {"image_size": model.image_size // 2, "stem_stride": model.stride},
    )
    for half in halves:
        try:
            smaller = dataclasses.replace(model, **half)
        except ValueError:  # its groups do not divide it, or its images are too small
            continue
        if dense_macs(smaller) < dense_macs(model):
            yield smaller


def _time_steps(config: RunConfig, batch: int) -> float:
    """Return the median seconds of a training step on noise, per image."""
    import torch

    from condense_core.data import Augmentation, Dataset, DecodedImages, Normalisation
    from condense_core.training import Trainer

    torch.set_num_threads(config.threads)
    model = config.model
    model = dataclasses.replace(model, condense_factor=min(model.condense_factor, MAX_FACTOR))
    images = batch * (TIMED_STEPS + 1)
    pixels = torch.randint(256, (images, 3, model.image_size, model.image_size), dtype=torch.uint8)
    labels, normalisation = torch.arange(images) % model.num_classes, Normalisation((0.5,) * 3, (0.25,) * 3)
    noise, few = (
        DecodedImages(pixels[:count], labels[:count], normalisation, Augmentation(0, flip=False))
        for count in (images, batch)
    )
    classes = tuple(map(str, range(model.num_classes)))
    recipe = dataclasses.replace(config.recipe, epochs=1, learning_rate=0.0, batch_size=batch)  # cannot diverge
    trainer = Trainer(
        dataclasses.replace(config, model=model, recipe=recipe), Dataset("noise", classes, noise, None, few)
    )
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
