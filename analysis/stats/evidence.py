"""The numbers that the comparisons of a study rest on, and the level that each comparison is tested at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .contrasts import KINDS, MAIN, Cells, Contrast
from .intervals import CONFIDENCE
from .outcomes import Outcomes

MAIN_SHARE = 0.5  # of the error rate, for the effects that a study is made for


@dataclass(frozen=True)
class Evidence:
    """What was measured of each of m comparisons; the leading axes, if any, are studies.

    `difference`, `scatter` (variance of the difference between seeds) and `images` (variance of the mean
    difference from the test images; 0 if it is unknown) are (..., m), in points and their squares. The others
    are (m,): the number of seeds, the sum of squared weights, the kind, and the variance of rounding an error
    to whole images. `rank` is the number of comparisons that are independent.
    """

    difference: np.ndarray
    scatter: np.ndarray
    images: np.ndarray
    seeds: np.ndarray
    norm: np.ndarray
    kind: np.ndarray
    rounding: np.ndarray
    rank: int

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kind) - set(KINDS))
        if unknown:
            raise ValueError(f"kind {unknown[0]!r}: must be one of {', '.join(KINDS)}")


def evidence_of(
    cells: Cells, family: Sequence[Contrast], outcomes: Outcomes | None = None
) -> tuple[Evidence, np.ndarray]:
    """Return what was measured of some contrasts, and of each the number of test images that it covers."""
    weights = _weights(cells, family)
    by_seed = [cells.by_seed(contrast) for contrast in family]
    norm = (weights**2).sum(1)
    images, counts = _images(cells, family, weights, outcomes)
    evidence = Evidence(
        difference=np.array([values.mean() for values in by_seed]),
        scatter=np.array([values.var(ddof=1) for values in by_seed]),
        images=images,
        seeds=np.array([len(values) for values in by_seed]),
        norm=norm,
        kind=np.array([contrast.kind for contrast in family]),
        rounding=np.full(len(family), _rounding(cells)),
        rank=int(np.linalg.matrix_rank(weights)),
    )
    return evidence, counts


def _weights(cells: Cells, family: Sequence[Contrast]) -> np.ndarray:
    """Return the weights of all variants in each contrast: (contrasts, variants)."""
    weights = np.zeros((len(family), len(cells.places)))
    for row, contrast in zip(weights, family, strict=True):
        row[[cells.places[name] for name in contrast.weights]] = list(contrast.weights.values())
    return weights


def _rounding(cells: Cells) -> float:
    """Return the variance of rounding an error to whole images; 0 if their number is not known."""
    images = cells.frame["test_images"].min() if "test_images" in cells.frame else np.nan
    return float((100 / images) ** 2 / 12) if images > 0 else 0.0


def _images(
    cells: Cells, family: Sequence[Contrast], weights: np.ndarray, outcomes: Outcomes | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of each contrast from its test images and the number of these; 0 if unknown."""
    variances, counts = np.zeros(len(family)), np.zeros(len(family))
    if outcomes is None:
        return variances, counts
    for seeds in {contrast.seeds for contrast in family if len(contrast.seeds) > 1}:
        names = cells.runs[list(seeds)].to_numpy(object)
        seen = np.array([all(map(outcomes.has, row)) for row in names])
        if not seen.any():
            continue
        covariance = outcomes.covariance(names[seen])
        unit = (100 / outcomes.count(names[seen].flat)) ** 2 / 2  # one image tells two variants apart
        tested = len(outcomes.wrong[names[seen][0, 0]])
        for place, contrast in enumerate(family):
            if contrast.seeds == seeds and not weights[place, ~seen].any():
                own = weights[place, seen]
                variances[place] = max(own @ covariance @ own, unit * (own @ own))
                counts[place] = tested
    return variances, counts


def family_levels(kinds: Sequence[str] | np.ndarray) -> np.ndarray:
    """Return the error rate of each comparison (Bonferroni); main effects and all others have half each."""
    main = np.asarray(kinds) == MAIN
    share = np.where(main, MAIN_SHARE, 1 - MAIN_SHARE) if main.any() and not main.all() else 1.0
    return (1 - CONFIDENCE) * share / np.where(main, main.sum(), (~main).sum())
