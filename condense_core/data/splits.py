"""Split a data set into training, validation and test images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from condense_core.config import DataConfig
from condense_core.randomness import generator

from .datasets import Dataset, hash_of
from .images import Images
from .summary import TEST_SHARE, held_out

FIXED = 0  # the seed of splits that are the same for all seeds of a study


@dataclass(frozen=True)
class Source:
    """All images of a data set. `test` is None if it has no test images of its own."""

    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images | None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all images and classes, however they are split."""
        parts = (self.train, self.test)
        return hash_of(self.classes, (part.fingerprint() if part else "" for part in parts))


def split(source: Source, config: DataConfig, seed: int) -> Dataset:
    """Split a data set: by the run's seed, or in the same way for all seeds (`config.split`).

    A seed draws the validation images, the subset of training images, and the test images if the data set has
    none of its own. All draws keep the shares of the classes.
    """
    drawn = seed if config.split == "seed" else FIXED
    images, test, rest = source.train, source.test, torch.arange(len(source.train))
    labels = images.labels.cpu()
    if test is None:
        rest, tested = _hold_out(labels, rest, TEST_SHARE, generator(drawn, "test"))
    rest, validated = _hold_out(labels, rest, config.validation_fraction, generator(drawn, "validation"))
    if config.train_images is not None:
        rest = rest[balanced(labels[rest], config.train_images, generator(drawn, "subset"))]
    if len(rest) < 2:
        raise ValueError(f"data {config.name!r}: needs at least 2 training images, has {len(rest)}")
    if test is None:  # then nothing may be known of the test images, their brightness included
        images = images.normalised_on(rest)
        test = images.subset(tested)
    else:
        tested = torch.arange(len(test))
    return Dataset(
        source.name,
        source.classes,
        images if len(rest) == len(images) else images.subset(rest),
        images.subset(validated) if len(validated) else None,
        test,
        places={"test": tested, "validation": validated},
        whole=source.fingerprint if config.split == "seed" else None,
    )


def _hold_out(labels: Tensor, among: Tensor, fraction: float, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Hold out the same share of every class; return the indices that are left and those held out, sorted."""
    among = among[torch.randperm(len(among), generator=draws)]
    classes = (among[labels[among] == label] for label in labels.unique())
    cut = [members.tensor_split([held_out(len(members), fraction)]) for members in classes]
    held, left = (torch.cat(parts).sort().values for parts in zip(*cut, strict=True))
    return left, held


def balanced(labels: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """Choose `count` images, equally many of every class if possible; return their indices, int64 (count,)."""
    order = torch.randperm(len(labels), generator=draws)
    rank = torch.empty_like(order)  # of an image among those of its class
    for label in labels.unique():
        members = order[labels[order] == label]
        rank[members] = torch.arange(len(members))
    return order[rank[order].argsort(stable=True)[:count]].sort().values
