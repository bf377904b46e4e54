"""Intervals that hold together for all comparisons of a study, over seeds and test images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from .contrasts import KINDS
from .evidence import Evidence, family_levels
from .intervals import CONFIDENCE

LENT_DF, LENT_SHARE = 4, 0.25  # degrees of freedom that the study's other comparisons lend to each one
MAX_SEEDS = 10_000
STEPS = 60  # of the bisections
DIFFERS, SAME, OPEN, UNKNOWN = "differs", "same", "open", "unknown"


@dataclass(frozen=True)
class Estimates:
    """Each comparison's variance between seeds, its degrees of freedom and its error rate, as (..., m)."""

    evidence: Evidence
    variance: np.ndarray
    df: np.ndarray
    level: np.ndarray

    @property
    def se_seeds(self) -> np.ndarray:
        """Standard error of the difference from the seeds, in points."""
        return np.sqrt(self.variance / self.evidence.seeds)

    @property
    def se_images(self) -> np.ndarray:
        """Standard error of the difference from the test images, in points."""
        return np.sqrt(self.evidence.images)

    @cached_property
    def half_width(self) -> np.ndarray:
        """Half the width of the corrected interval, in points; NaN with one seed, or if nothing varies."""
        half = self.half_at(self.level)
        return np.where(half > 0, half, np.nan)

    def half_at(self, level: np.ndarray, seeds: np.ndarray | int = 0, images: float = 1) -> np.ndarray:
        """Return half the width at an error rate, with more seeds and `images` times the test images."""
        count = self.evidence.seeds + seeds
        t = -stats.t.ppf(level / 2, self.df + seeds)
        z = -stats.norm.ppf(level / 2)
        return np.sqrt(t**2 * self.variance / count + z**2 * self.evidence.images / images)

    @property
    def found(self) -> np.ndarray:
        """Whether the interval excludes 0."""
        return np.abs(self.evidence.difference) > self.half_width

    @property
    def p(self) -> np.ndarray:
        """The corrected p value: less than 0.05 exactly if the interval excludes 0."""
        size, known = np.abs(self.evidence.difference), np.isfinite(self.half_width)
        low, high = np.full(size.shape, np.log(1e-12)), np.zeros(size.shape)
        for _ in range(STEPS):
            middle = (low + high) / 2
            includes = self.half_at(np.exp(middle)) >= size
            low, high = np.where(includes, middle, low), np.where(includes, high, middle)
        corrected = np.minimum(1, np.exp(high) * (1 - CONFIDENCE) / self.level)
        return np.where(known, corrected, np.nan)

    def settling(self, meaningful: float) -> np.ndarray:
        """Return the half width with which the difference, as it is, would differ or be the same."""
        size = np.abs(self.evidence.difference)
        return np.maximum(size, meaningful - size)

    def images_share(self, meaningful: float) -> np.ndarray:
        """Return how many times the test images a difference needs, however many seeds there are."""
        return (-stats.norm.ppf(self.level / 2) * self.se_images / self.settling(meaningful)) ** 2

    def seeds_needed(self, meaningful: float) -> np.ndarray:
        """Return the seeds that settle a difference if it stays as it is; infinite if the images forbid it."""
        low, high = np.ones(self.variance.shape), np.full(self.variance.shape, float(MAX_SEEDS))
        for _ in range(MAX_SEEDS.bit_length()):
            middle = np.maximum(2, (low + high) // 2)
            with np.errstate(invalid="ignore"):
                half = self.half_at(self.level, middle - self.evidence.seeds)
            enough = half <= self.settling(meaningful)
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        needed = np.where(high >= MAX_SEEDS, np.inf, high)
        return np.where(np.isfinite(self.half_width), needed, np.nan)

    def verdicts(self, meaningful: float) -> np.ndarray:
        """Return of each difference: it differs, is the same within the margin, is open, or has no interval."""
        size, half = np.abs(self.evidence.difference), self.half_width
        known = [np.isnan(half), size > half, size + half <= meaningful]
        return np.select(known, [UNKNOWN, DIFFERS, SAME], OPEN)


def estimated(evidence: Evidence) -> Estimates:
    """Return the estimates of a study's comparisons. A comparison with fewer than two seeds has none.

    The variance between seeds is that of the comparison itself (n − 1 degrees of freedom) together with that of
    the study's other comparisons (at most LENT_DF). With many seeds its own decides.
    """
    own, lent = evidence.seeds - 1, _lent(evidence)
    known = np.where(own > 0, evidence.scatter / evidence.norm, np.nan)
    pooled = (own * known + lent * _typical(known, evidence.kind)) / np.maximum(own + lent, 1)
    variance = np.maximum(pooled, evidence.rounding) * evidence.norm
    df = np.where(own > 0, own + lent, np.nan)
    return Estimates(evidence, variance, np.broadcast_to(df, variance.shape), family_levels(evidence.kind))


def _lent(evidence: Evidence) -> np.ndarray:
    """Return a quarter of the degrees of freedom of the study's other comparisons, at most four."""
    return np.clip(LENT_SHARE * (evidence.rank - 1) * (evidence.seeds - 1), 0, LENT_DF)


def _typical(scatter: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Return the mean variance of comparisons of the same kind, or of all comparisons if that is larger."""
    typical = np.zeros(scatter.shape)
    for name in KINDS:
        if (kind == name).any():
            same = _mean(scatter[..., kind == name])
            typical[..., kind == name] = np.fmax(same, _mean(scatter))[..., None]
    return typical


def _mean(scatter: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis without the comparisons that have no variance."""
    known = np.isfinite(scatter)
    return np.where(known, scatter, 0).sum(-1) / np.maximum(known.sum(-1), 1)
