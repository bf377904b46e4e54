"""Findings as sentences. An effect whose interval includes 0 is reported as 'no difference shown'."""

from __future__ import annotations

import math

import pandas as pd

from analysis.axes import MATCH_TOLERANCE
from analysis.stats import Interval
from analysis.text import interval


def effect_sentence(effect: pd.Series) -> str:
    """Return one main effect as a sentence, with its interval and the number of pairs."""
    level, against = (_level(effect.factor, name) for name in (effect.level, effect.against))
    names = f"{_capital(level)} against {against}"
    if effect.pairs < 2:
        return f"{names}: one pair only, too few for an interval."
    if not math.isfinite(effect.low):
        return (
            f"{names}: {effect.difference:+.2f} points in each of {effect.pairs} pairs; without variation "
            "there is no interval."
        )
    ends = interval(effect.low, effect.high)
    if not effect.effect:
        return (
            f"{names}: no difference shown ({effect.difference:+.2f} points; the interval {ends} includes 0; "
            f"{_pairs(effect)})."
        )
    word = "lower" if effect.difference < 0 else "higher"
    return (
        f"{_capital(level)} gives a {word} test error than {against}: "
        f"{effect.difference:+.2f} points ({ends}; {_pairs(effect)})."
    )


def _pairs(effect: pd.Series) -> str:
    return f"{effect.pairs} pairs" + (f", {effect.seeds} seeds" if effect.seeds > 1 else ", one seed")


def findings(
    effects: pd.DataFrame, summary: pd.DataFrame, interactions: pd.DataFrame | None = None
) -> list[str]:
    """Return the effects and interactions as sentences, then the base compared with the dense reference."""
    sentences = [effect_sentence(effect) for _, effect in effects.iterrows()]
    if interactions is not None and len(interactions):
        sentences += interaction_sentences(interactions)
    return sentences + unequal_cost(summary) + reference_sentences(summary)


def interaction_sentences(interactions: pd.DataFrame) -> list[str]:
    """Return a sentence for each interaction that is shown, or one that says that there are none."""
    shown = interactions[interactions.effect]
    if shown.empty:
        largest = interactions.loc[interactions.difference.abs().idxmax()]
        return [
            f"No interaction is shown: no effect differs between the levels of another factor "
            f"({len(interactions)} tested; the largest is {largest.difference:+.2f} points)."
        ]
    return [
        f"This depends on {row.other.replace('_', ' ')}: {_level(row.factor, row.level)} minus "
        f"{_level(row.factor, row.against)} is {abs(row.difference):.2f} points "
        f"{'lower' if row.difference < 0 else 'higher'} with {_level(row.other, row.other_level)} than with "
        f"{_level(row.other, row.other_against)} ({interval(row.low, row.high)}; {_pairs(row)})."
        for _, row in shown.iterrows()
    ]


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
    found = Interval(dense.difference_low, dense.difference_high)
    text = (
        f"The base ({base.variant}) has {base.macs / dense.macs:.0%} of the dense reference's MACs and "
        f"{base.params / dense.params:.0%} of its parameters; the dense reference's error differs by "
        f"{dense.difference:+.2f} points"
    )
    if not math.isfinite(found.low):
        return f"{text}."
    return f"{text} ({found}{', which includes 0' if found.includes(0) else ''})."


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
