"""The answer to one question of the audit."""

from __future__ import annotations

from dataclasses import dataclass

HELD, PARTLY, NOT_HELD = VERDICTS = ("held", "partly", "not held")


@dataclass(frozen=True)
class Answer:
    """How far a requirement is met, the figure that says so, and the option that would mend it."""

    requirement: str
    verdict: str
    evidence: str
    mend: str = ""


def by_share(share: float) -> str:
    """Return the verdict on something that holds for a share of all."""
    return HELD if share >= 1 else PARTLY if share > 0 else NOT_HELD


def ends(low: str, high: str) -> str:
    """Return a range in words: both ends, or one if they read alike."""
    return low if low == high else f"{low} to {high}"
