"""What the figures say, in words; an effect whose interval holds 0 is called so."""

from __future__ import annotations

import math

import pandas as pd

from analysis.axes import MATCH_TOLERANCE


def effect_sentence(effect: pd.Series) -> str:
    """One main effect as a sentence, with its interval and the number of pairs."""
    level, against = (_level(effect.factor, name) for name in (effect.level, effect.against))
    if effect.pairs < 2:
        return f"{_capital(level)} against {against}: one pair only, too few for an interval."
    if not math.isfinite(effect.low):
        return (
            f"{_capital(level)} against {against}: {effect.difference:+.2f} points in each of {effect.pairs} "
            "pairs; without any variation there is no interval."
        )
    interval = f"{effect.low:+.2f} to {effect.high:+.2f}"
    if not effect.effect:
        return (
            f"{_capital(level)} against {against}: no difference shown "
            f"({effect.difference:+.2f} points; the interval {interval} holds 0; {_pairs(effect)})."
        )
    word = "lower" if effect.difference < 0 else "higher"
    return (
        f"{_capital(level)} gives a {word} test error than {against}: "
        f"{effect.difference:+.2f} points ({interval}; {_pairs(effect)})."
    )


def _pairs(effect: pd.Series) -> str:
    return f"{effect.pairs} pairs" + (f", {effect.seeds} seeds" if effect.seeds > 1 else ", one seed")


def findings(
    effects: pd.DataFrame, summary: pd.DataFrame, interactions: pd.DataFrame | None = None
) -> list[str]:
    """The main effects and interactions as sentences, then what the base costs beside the dense reference."""
    sentences = [effect_sentence(effect) for _, effect in effects.iterrows()]
    if interactions is not None and len(interactions):
        sentences += interaction_sentences(interactions)
    return sentences + unequal_cost(summary) + reference_sentences(summary)


def interaction_sentences(interactions: pd.DataFrame) -> list[str]:
    """The interactions that are shown, or that none is."""
    shown = interactions[interactions.effect]
    if shown.empty:
        largest = interactions.loc[interactions.difference.abs().idxmax()]
        return [
            f"No interaction is shown: no effect differs between the levels of another factor "
            f"({len(interactions)} looked at, the largest {largest.difference:+.2f} points)."
        ]
    return [
        f"This depends on {row.other.replace('_', ' ')}: {_level(row.factor, row.level)} less "
        f"{_level(row.factor, row.against)} is {abs(row.difference):.2f} points "
        f"{'lower' if row.difference < 0 else 'higher'} with {_level(row.other, row.other_level)} than with "
        f"{_level(row.other, row.other_against)} ({row.low:+.2f} to {row.high:+.2f}; {_pairs(row)})."
        for _, row in shown.iterrows()
    ]


def unequal_cost(summary: pd.DataFrame) -> list[str]:
    """A warning where the effects are of variants that do not cost the same."""
    grid = summary[(summary.role == "grid") & (summary.n > 0)] if len(summary) else summary
    if grid.empty or grid.residual.abs().max() <= MATCH_TOLERANCE:
        return []
    low, high = grid.residual.min(), grid.residual.max()
    return [
        f"These differences are not at equal cost: the variants' MACs are {100 * low:+.0f} % to "
        f"{100 * high:+.0f} % beside the base's. The trade-off shows error and cost together."
    ]


def reference_sentences(summary: pd.DataFrame) -> list[str]:
    """The base beside the dense reference of its width: cost saved, error paid."""
    if summary.empty:
        return []
    bases = summary[summary.role == "base"]
    if bases.empty:
        return []
    base = bases.iloc[0]
    sentences = []
    for _, dense in summary[summary.role == "reference"].iterrows():
        if not (base.n and dense.n):
            continue
        text = (
            f"The base ({base.variant}) has {base.macs / dense.macs:.0%} of the dense reference's MACs and "
            f"{base.params / dense.params:.0%} of its parameters; the dense reference's error is "
            f"{dense.difference:+.2f} points beside it"
        )
        if math.isfinite(dense.difference_low):
            held = dense.difference_low <= 0 <= dense.difference_high
            interval = f"{dense.difference_low:+.2f} to {dense.difference_high:+.2f}"
            text += f" ({interval}{', which holds 0' if held else ''})"
        sentences.append(text + ".")
    return sentences


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def unequal_terms(runs: pd.DataFrame) -> list[str]:
    """What of a study was trained with other code, torch or data than the rest, or not in one piece."""
    if runs.empty:
        return []
    sentences = []
    for column, what in (("code", "condense_core"), ("torch", "torch"), ("data_fingerprint", "data")):
        counts = runs[column].fillna("unknown").value_counts()
        if len(counts) > 1:
            parts = ", ".join(f"{value} ({_runs(count)})" for value, count in sorted(counts.items()))
            sentences.append(f"The runs were not all trained with the same {what}: {parts}.")
    apart = runs.run[~runs.bit_identical.astype(bool)]
    if len(apart):
        sentences.append(
            f"Not bit-identical to runs of one piece, for they went on with other threads, ranks, device, "
            f"execution or processor than before: {_runs(len(apart))} ({', '.join(apart)})."
        )
    return sentences


def _level(factor: str, level: str) -> str:
    """A level of a factor in words."""
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
