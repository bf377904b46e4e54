"""Which test images each run got wrong, and what their sampling adds to the variance of a difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

MAX_ENTRIES = 20_000_000  # of a table: 160 MB


@dataclass(frozen=True)
class Outcomes:
    """By name of the run: which test images it got wrong (bool), and which images these are (int).

    Raise ValueError if a run's answers and images differ in number, or an image stands twice.
    """

    wrong: Mapping[str, np.ndarray]
    images: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        for run, wrong in self.wrong.items():
            images = self.images.get(run, ())
            if len(images) != len(wrong):
                raise ValueError(f"images of {run}: {len(images)}, but there are {len(wrong)} answers")
            if len(np.unique(images)) != len(images):
                raise ValueError(f"images of {run}: an image stands twice")

    @classmethod
    def of_frame(cls, outcomes: pd.DataFrame) -> Outcomes:
        """Take `frames.outcomes`."""
        parts = dict(iter(outcomes.groupby("run", sort=False)))
        return cls(
            {str(run): ~part.correct.to_numpy(bool) for run, part in parts.items()},
            {str(run): part.image.to_numpy() for run, part in parts.items()},
        )

    def has(self, run: object) -> bool:
        """Return whether the answers of a run are known."""
        return run in self.wrong

    def joined(self, others: Outcomes) -> Outcomes:
        """Return these outcomes with those of other runs on the same data."""
        return Outcomes({**self.wrong, **others.wrong}, {**self.images, **others.images})

    def count(self, runs: Iterable[str]) -> int:
        """Return how many different images some runs were tested on."""
        return len(self._all_images(runs))

    def covariance(self, runs: np.ndarray) -> np.ndarray:
        """Return `image_covariance` of the errors (%) of runs: (variants, seeds) → (variants, variants)."""
        every = self._all_images(runs.flat)
        at_once = max(1, MAX_ENTRIES // runs.size)
        parts = [every[start : start + at_once] for start in range(0, len(every), at_once)]
        return np.sum([image_covariance(self._table(runs, part)) for part in parts], axis=0)

    def _all_images(self, runs: Iterable[str]) -> np.ndarray:
        """Return the different images of some runs, in order."""
        different = {self.images[run].tobytes(): self.images[run] for run in runs}
        return np.unique(np.concatenate(list(different.values())))

    def _table(self, runs: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Return wrong answers in percent of the run's images, less their mean: (variants, seeds, images).

        An image that a run was not tested on has 0.
        """
        table = np.zeros((runs.size, len(images)))
        for row, run in zip(table, runs.flat, strict=True):
            wrong, tested = self.wrong[run], self.images[run]
            known = (tested >= images[0]) & (tested <= images[-1])
            row[np.searchsorted(images, tested[known])] = 100 * (wrong[known] - wrong.mean()) / len(wrong)
        return table.reshape(*runs.shape, len(images))


def image_covariance(table: np.ndarray) -> np.ndarray:
    """Return the covariance of mean errors that seeds share because they share images.

    `table` (..., variants, seeds, images) has wrong answers in percent of the run's images, less their mean.
    Pairs of different seeds leave out what varies by seed and image, which the scatter of the seeds contains.
    Two seeds at least are needed.
    """
    seeds = table.shape[-2]
    shared = table.sum(-2)
    both = shared @ np.swapaxes(shared, -1, -2)
    by_seed = np.moveaxis(table, -2, -3)
    return (both - (by_seed @ np.swapaxes(by_seed, -1, -2)).sum(-3)) / (seeds * (seeds - 1))
