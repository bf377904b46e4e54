"""How a study's settings were tuned: what was tried, chosen and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from analysis import stats
from analysis.text import count, counted, duration, inert

TrialRow = Mapping[str, Any]  # `schemas.Trial`


def tuning_sentences(rows: Sequence[TrialRow]) -> list[str]:
    """Return how a study's settings were chosen; without tuning, that one recipe served all variants."""
    if not rows:
        return ["One recipe served all variants: no setting was tuned for each of them (option --tune)."]
    if not any(row["chosen"] for row in rows):
        return ["The settings are not chosen yet: runs that try them are left to train."]
    return [_how(rows), *cautions(rows)]


def _how(rows: Sequence[TrialRow]) -> str:
    runs = len({name for row in rows for name in row["runs"]})
    cost = f"{count(sum(row['training_macs'] for row in rows))} training MACs"
    seconds = duration(sum(row["seconds"] for row in rows))
    return (
        f"For each variant {tried_in_words(rows)} was chosen by the error on validation images, with "
        f"{counted(seeds_of_tuning(rows), 'seed')} that no result has. This took {runs} runs, {cost} and "
        f"{seconds} besides the results."
    )


def seeds_of_tuning(rows: Sequence[TrialRow]) -> int:
    """Return with how many seeds every value was tried."""
    return len(rows[0]["runs"])


def tried(rows: Sequence[TrialRow]) -> dict[str, list[Any]]:
    """Return the values that were tried, by their settings."""
    found: dict[str, dict[Any, None]] = {}
    for row in rows:
        for name, value in row["values"].items():
            found.setdefault(name, {})[value] = None
    return {name: list(values) for name, values in found.items()}


def tried_in_words(rows: Sequence[TrialRow]) -> str:
    """Return the settings that were tuned, each with its list of values."""
    lists = (f"{inert(name)} from {', '.join(map(value_text, values))}" for name, values in tried(rows).items())
    return " and ".join(lists)


def cautions(rows: Sequence[TrialRow]) -> list[str]:
    """Return what weakens the choices, if there are any: ends of lists, and chance."""
    return edge_sentences(rows) + noise_sentences(rows) if any(row["chosen"] for row in rows) else []


def edge_sentences(rows: Sequence[TrialRow]) -> list[str]:
    """Return a warning for every end of a list of tried values that was chosen."""
    chosen = [row for row in rows if row["chosen"]]
    lists = tried(rows)
    return [sentence for name, values in lists.items() for sentence in _edges(name, values, chosen)]


def _edges(name: str, values: list[Any], chosen: Sequence[TrialRow]) -> Iterator[str]:
    numbers = [value for value in values if value is not None]
    ends = ((min(numbers), "smallest"), (max(numbers), "largest")) if numbers else ()
    for end, word in ends:
        variants = [inert(row["variant"]) for row in chosen if row["values"].get(name) == end]
        if variants:
            yield (
                f"The {word} {inert(name)} that was tried, {value_text(end)}, was chosen for "
                f"{', '.join(variants)}. A value beyond it may be better: extend the list."
            )


def value_text(value: Any) -> str:
    """Return a value that was tried, in short."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def noise_sentences(rows: Sequence[TrialRow]) -> list[str]:
    """Return how many choices may be those of chance; nothing for rows of earlier versions."""
    if seeds_of_tuning(rows) == 1:
        return ["One seed of the tuning does not say how far chance decided its choices (--tune-seeds)."]
    variants: dict[str, list[TrialRow]] = {}
    for row in rows:
        variants.setdefault(row["variant"], []).append(row)
    noise = stats.choice_noise(map(_errors, variants.values()))
    if noise is None:
        return []
    close = sum(_has_rival(own, noise) for own in variants.values())
    return [
        f"In the tuning, two values differ by chance by up to {noise:.1f} points (95 %). Another value is that "
        f"close to the chosen one for {close} of {counted(len(variants), 'variant')}."
    ]


def _errors(rows: Sequence[TrialRow]) -> np.ndarray:
    """Return the errors of a variant's runs, (values, seeds); NaN where a run diverged or none is kept."""
    return np.array([row.get("errors_percent", [None] * len(row["runs"])) for row in rows], float)


def _has_rival(rows: Sequence[TrialRow], noise: float) -> bool:
    chosen = next(row["error_percent"] for row in rows if row["chosen"])
    others = (row["error_percent"] for row in rows if not row["chosen"])
    return chosen is not None and any(error is not None and error - chosen <= noise for error in others)
