"""Findings as sentences of three kinds: a difference is shown, excluded beyond a margin, or open."""

from __future__ import annotations

import pandas as pd

from analysis.axes import MATCH_TOLERANCE
from analysis.stats import DIFFERS, SAME, UNKNOWN

from .differences import Difference


def effect_sentence(effect: pd.Series) -> str:
    """Return one main effect as a sentence, with its interval and the number of seeds."""
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


def findings(
    effects: pd.DataFrame, summary: pd.DataFrame, interactions: pd.DataFrame | None = None
) -> list[str]:
    """Return the effects and interactions as sentences, then the base compared with the dense reference."""
    sentences = [effect_sentence(effect) for _, effect in effects.iterrows()]
    if interactions is not None and len(interactions):
        sentences += interaction_sentences(interactions)
    return sentences + unequal_cost(summary) + reference_sentences(summary) + _uncovered(effects)


def interaction_sentences(interactions: pd.DataFrame) -> list[str]:
    """Return a sentence for each interaction that is shown, and one that says what is known of the others."""
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


def _uncovered(effects: pd.DataFrame) -> list[str]:
    """Return a note if intervals leave out the test images, because what runs say of each is not known."""
    if effects.empty or not ((effects.covers == "seeds") & (effects.finding != UNKNOWN)).any():
        return []
    return ["The intervals cover the scatter of the seeds, but not that of the test images."]


def unequal_cost(summary: pd.DataFrame) -> list[str]:
    """Return a warning if the compared variants do not cost the same."""
    grid = summary[(summary.role == "grid") & (summary.n > 0)] if len(summary) else summary
    if grid.empty or grid.residual.abs().max() <= MATCH_TOLERANCE:
        return []
    low, high = grid.residual.min(), grid.residual.max()
    return [
        "These differences are not at equal cost: the variants' MACs differ from the base's by "
        f"{100 * low:+.0f} % to {100 * high:+.0f} %. The trade-off shows error and cost together."
    ]


def reference_sentences(summary: pd.DataFrame) -> list[str]:
    """Compare the base with the dense reference of its width: cost saved, error paid."""
    if summary.empty:
        return []
    bases = summary[summary.role == "base"]
    if bases.empty:
        return []
    base = bases.iloc[0]
    references = summary[(summary.role == "reference") & (summary.n > 0)]
    return [_reference_sentence(base, dense) for _, dense in references.iterrows()] if base.n else []


def _reference_sentence(base: pd.Series, dense: pd.Series) -> str:
    found = Difference.of_variant(dense)
    text = (
        f"The base ({base.variant}) has {base.macs / dense.macs:.0%} of the dense reference's MACs and "
        f"{base.params / dense.params:.0%} of its parameters; "
    )
    return text + against(found, "the dense reference's test error")


def against(found: Difference, whose: str) -> str:
    """Return what is known of a difference of test errors, as the end of a sentence."""
    if found.differs:
        return f"{whose} is {found.word}: {found.numbers}.{found.more}"
    if found.is_same:
        return f"{whose} is the same within {found.meaningful:g} points: {found.numbers}."
    if found.finding == UNKNOWN:
        return f"{whose} differs by {found.numbers}; {found.unknown}."
    return f"whether {whose} differs is open: {found.numbers}.{found.more}"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def terms(runs: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return on what the runs were trained: by name of the term the number of runs with each value."""
    names = {"code": "condense_core", "torch": "torch", "data_fingerprint": "data", "processor": "processor"}
    known = {name: runs[column].fillna("unknown") for column, name in names.items() if column in runs}
    return {name: dict(sorted(values.value_counts().items())) for name, values in known.items()}


def unequal_terms(runs: pd.DataFrame) -> list[str]:
    """Return a warning for each way in which a study's runs were trained on unequal terms."""
    if runs.empty:
        return []
    sentences = []
    for name, counts in terms(runs).items():
        if len(counts) > 1:
            parts = ", ".join(f"{value} ({_runs(count)})" for value, count in counts.items())
            sentences.append(f"The runs were not all trained with the same {name}: {parts}.")
    resumed = runs.run[~runs.bit_identical.astype(bool)]
    if len(resumed):
        sentences.append(
            "Not bit-identical to uninterrupted runs, because they were resumed with other threads, ranks, "
            f"device, execution or processor: {_runs(len(resumed))} ({', '.join(resumed)})."
        )
    return sentences


def _level(factor: str, level: str) -> str:
    """Return a level of a factor in words."""
    words = {
        "groups": "{} group" if level == "1" else "{} groups",
        "condense_factor": "condense factor {}",
        "group_lasso": "group lasso {}",
        "criterion": "criterion {}",
        "step": "{}",
    }
    if factor == "pruning":
        return "condensing" if level == "condensing" else f"{level} pruning"
    return words.get(factor, f"{{}} {factor}").format(level)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
