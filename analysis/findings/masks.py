"""Findings about masks: what each question of the study `masks` shows, and how its chain adds up."""

from __future__ import annotations

import pandas as pd

from analysis.masks import MASK_QUESTIONS
from analysis.stats import OPEN

from .differences import Difference


def question_sentence(effect: pd.Series) -> str:
    """Return what is known of one question of the study, with its interval."""
    gives, found = MASK_QUESTIONS[effect.factor].gives, Difference.of_effect(effect)
    start = f"With {gives} ({effect.level} against {effect.against})"
    if found.finding == OPEN:
        return f"{start} it is open whether the test error changes: {found.numbers}.{found.more}"
    return f"{start} {found.against('the test error')}"


def chain_sentences(effects: pd.DataFrame) -> list[str]:
    """Return how the differences of the chain add up; nothing for other studies, or if one is missing.

    They add up on the same seeds alone.
    """
    chain = [name for name, question in MASK_QUESTIONS.items() if question.in_chain]
    rows = effects[effects.factor.isin(chain)] if len(effects) else effects
    if len(rows) < len(chain) or rows.seeds.nunique() > 1:
        return []
    parts = [f"{row.difference:+z.2f} by {MASK_QUESTIONS[row.factor].gives}" for row in rows.itertuples()]
    ends, seeds = (rows.level.iloc[0], rows.against.iloc[-1]), int(rows.seeds.iloc[0])
    counted = "one seed" if seeds == 1 else f"the same {seeds} seeds"
    return [
        f"From {' to '.join(ends[::-1])} masks the test error changes by {rows.difference.sum():+z.2f} points: "
        f"{', '.join(parts[:-1])} and {parts[-1]} (means of {counted}; the intervals are those above)."
    ]
