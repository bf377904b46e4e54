"""What is known of one difference in words: that it differs, that it is the same, or what would settle it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from analysis.stats import DIFFERS, SAME, UNKNOWN, Interval


@dataclass(frozen=True)
class Difference(Interval):
    """A difference in points with its corrected interval, what is known of it, and what would settle it."""

    mean: float
    finding: str
    meaningful: float
    seeds: int
    seeds_needed: float
    images_needed: float
    pairs: int

    @classmethod
    def of_effect(cls, row: Any) -> Difference:
        """Take a row of `stats.effects` or `stats.interactions`."""
        return cls._of(row, row.low, row.high, int(row.seeds))

    @classmethod
    def of_variant(cls, row: Any) -> Difference:
        """Take a row of `stats.summary`: the difference to the base."""
        return cls._of(row, row.difference_low, row.difference_high, int(row.pairs))

    @classmethod
    def _of(cls, row: Any, low: float, high: float, seeds: int) -> Difference:
        finding = row.finding if isinstance(row.finding, str) else UNKNOWN
        needed, images = row.seeds_needed, getattr(row, "images_needed", math.nan)
        return cls(low, high, row.difference, finding, row.meaningful, seeds, needed, images, int(row.pairs))

    @property
    def differs(self) -> bool:
        """Whether the interval excludes 0."""
        return self.finding == DIFFERS

    @property
    def is_same(self) -> bool:
        """Whether the interval includes 0 and lies within the margin that matters."""
        return self.finding == SAME

    @property
    def word(self) -> str:
        """The direction of the difference."""
        return "lower" if self.mean < 0 else "higher"

    @property
    def numbers(self) -> str:
        """The difference with its interval, pairs and seeds."""
        known = f"{self}; " if math.isfinite(self.low) else ""
        pairs = f"{self.pairs} pairs, " if self.pairs > self.seeds else ""
        seeds = "one seed" if self.seeds == 1 else f"{self.seeds} seeds"
        return f"{self.mean:+z.2f} points ({known}{pairs}{seeds})"

    @property
    def more(self) -> str:
        """A sentence on what the difference means or needs, after a space; nothing if all is said."""
        if self.differs:
            margin = f" That is within the {self.meaningful:g} points that matter."
            return margin if self.within(self.meaningful) else ""
        return f" {self._needs}" if self.finding not in (SAME, UNKNOWN) else ""

    @property
    def _needs(self) -> str:
        if math.isfinite(self.seeds_needed):
            return f"If it stays so, about {self.seeds_needed:.0f} seeds would settle it."
        if math.isfinite(self.images_needed):
            return (
                "No number of seeds would settle it with these test images; that takes more than "
                f"{self.images_needed:.0f} images."
            )
        return "It would take more seeds than can be trained to settle it."

    @property
    def unknown(self) -> str:
        """Why there is no interval."""
        if self.seeds < 2:
            return "one seed is too few for an interval"
        return "without variation there is no interval"

    def against(self, whose: str) -> str:
        """Return what is known of a difference of test errors, as the end of a sentence."""
        if self.differs:
            return f"{whose} is {self.word}: {self.numbers}.{self.more}"
        if self.is_same:
            return f"{whose} is the same within {self.meaningful:g} points: {self.numbers}."
        if self.finding == UNKNOWN:
            return f"{whose} differs by {self.numbers}; {self.unknown}."
        return f"whether {whose} differs is open: {self.numbers}.{self.more}"
