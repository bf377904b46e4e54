"""The smallest difference of test error that matters."""

from __future__ import annotations

import math

MEANINGFUL = 0.5
"""Points that matter, if nobody says otherwise."""


def check_meaningful(value: float) -> float:
    """Return the margin in points. Raise ValueError if it is not above 0 and at most 100."""
    if not (math.isfinite(value) and 0 < value <= 100):
        raise ValueError(f"meaningful {value:g}: must be more than 0 points and at most 100")
    return value
