"""Effects and interactions as sentences: a difference is shown, excluded beyond a margin, or open."""

from __future__ import annotations

import pandas as pd

from analysis.masks import MASK_QUESTIONS
from analysis.stats import DIFFERS, SAME, UNKNOWN

from .differences import Difference
from .masks import question_sentence


def effect_sentence(effect: pd.Series) -> str:
    """Return one main effect as a sentence, with its interval and the number of seeds."""
    if effect.factor in MASK_QUESTIONS:
        return question_sentence(effect)
    level, against = (_level(effect.factor, name) for name in (effect.level, effect.against))
    found, first = Difference.of_effect(effect), _capital(level)
    if found.differs:
        return f"{first} gives a {found.word} test error than {against}: {found.numbers}.{found.more}"
    if found.is_same:
        margin = f"{found.meaningful:g} points"
        return f"{first} and {against} give the same test error within {margin}: {found.numbers}."
    if found.finding == UNKNOWN:
        return f"{first} against {against}: {found.numbers}; {found.unknown}."
    return f"{first} against {against} is open: {found.numbers}.{found.more}"


def interaction_sentences(interactions: pd.DataFrame) -> list[str]:
    """Return a sentence for each interaction that is shown, and one that says what is known of the others."""
    if interactions.empty:
        return []
    shown = [_interaction_sentence(row) for _, row in interactions[interactions.finding == DIFFERS].iterrows()]
    others = interactions[interactions.finding != DIFFERS]
    return shown + ([_other_interactions(others)] if len(others) else [])


def _interaction_sentence(row: pd.Series) -> str:
    found = Difference.of_effect(row)
    sides = [_level(row.factor, name) for name in (row.level, row.against)]
    other, against = (_level(row.other, name) for name in (row.other_level, row.other_against))
    return (
        f"This depends on {row.other.replace('_', ' ')}: {' minus '.join(sides)} is {found.word} with {other} "
        f"than with {against}: {found.numbers}.{found.more}"
    )


def _other_interactions(others: pd.DataFrame) -> str:
    same, margin = int((others.finding == SAME).sum()), f"{others.meaningful.iloc[0]:g} points"
    largest = Difference.of_effect(others.loc[others.difference.abs().idxmax()])
    counted = "One interaction is" if len(others) == 1 else f"{len(others)} interactions are"
    if same == len(others):
        return f"{counted} within {margin}: the largest is {largest.numbers}."
    within = f"; {same} of them {'is' if same == 1 else 'are'} within {margin}" if same else ""
    return f"{counted} not shown{within}. The largest is {largest.numbers}; whether it is 0 is open."


def uncovered_sentences(effects: pd.DataFrame) -> list[str]:
    """Return a note if intervals leave out the test images, because what runs say of each is not known."""
    known = effects[effects.finding != UNKNOWN] if len(effects) else effects
    alone = known[known.covers == "seeds"] if len(known) else known
    if alone.empty:
        return []
    if len(alone) == len(known):
        return ["The intervals cover the scatter of the seeds, but not that of the test images."]
    names = "; ".join(
        f"{_level(row.factor, row.level)} against {_level(row.factor, row.against)}"
        for row in alone.itertuples()
    )
    return [
        f"{len(alone)} of these {len(known)} intervals cover the scatter of the seeds, but not that of the "
        f"test images, because some runs have no outcomes: {names}."
    ]


def _level(factor: str, level: str) -> str:
    """Return a level of a factor in words."""
    words = dict.fromkeys(MASK_QUESTIONS, "{}") | {
        "groups": "{} group" if level == "1" else "{} groups",
        "condense_factor": "condense factor {}",
        "group_lasso": "group lasso {}",
        "criterion": "criterion {}",
        "step": "{}",
        "variant": "{}",
    }
    if factor == "fork":
        stage, _, change = level.partition(":")
        return f"the fork at stage {stage} with {change}" if change else "its parent"
    if factor == "budget":
        return "an uneven budget" if level == "uneven" else "the uniform one"
    if factor == "pruning":
        return "condensing" if level == "condensing" else f"{level} pruning"
    return words.get(factor, f"{{}} {factor}").format(level)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
