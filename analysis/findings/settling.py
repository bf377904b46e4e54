"""How many seeds would settle what a study leaves open."""

from __future__ import annotations

import math

import pandas as pd

from analysis.stats import DIFFERENCE, MAIN, OPEN, UNKNOWN


def headline(compared: pd.DataFrame) -> pd.DataFrame:
    """Return what a study is made for: its main effects, or if it has none the differences to the base."""
    if compared.empty:
        return compared
    is_main = compared.kind == MAIN
    return compared[is_main if is_main.any() else compared.kind == DIFFERENCE]


def headline_name(rows: pd.DataFrame) -> str:
    """Return what the rows of `headline` are, with their number."""
    name = "main effect" if (rows.kind == MAIN).all() else "difference to the base"
    plural = name.replace("effect", "effects").replace("difference", "differences")
    return f"{len(rows)} {name if len(rows) == 1 else plural}"


def settling_sentence(compared: pd.DataFrame) -> str:
    """Return how many seeds would settle the open comparisons of `headline`; empty if there are none."""
    rows, needed = headline(compared), _needed(compared)
    if not len(needed):
        return ""
    start = f"{len(needed)} of {headline_name(rows)} {'is' if len(needed) == 1 else 'are'} open"
    if needed.isna().all():
        return f"{start}: one seed gives no interval. Use at least two (--seeds)."
    return f"{start}. If they stay as they are, {settling_steps(compared)}."


def settling_steps(compared: pd.DataFrame) -> str:
    """Return what the fewest, the median and the most useful seeds would settle; empty if nothing is open."""
    needed = _needed(compared)
    finite = sorted(value for value in needed if math.isfinite(value))
    useful = finite[:1] + finite[len(finite) // 2 :][:1] + finite[-1:]
    parts: list[str] = []
    for seeds in dict.fromkeys(useful):
        settled = sum(value <= seeds for value in finite)
        verb = "" if parts else "would settle "
        parts.append(f"{seeds:.0f} seeds {verb}{'all' if settled == len(needed) else settled}")
    if parts:
        parts[-1] += " (--seeds)"
    if rest := len(needed) - len(finite):
        parts.append(f"{rest} {'needs' if rest == 1 else 'need'} more test images")
    return ", ".join(parts)


def _needed(compared: pd.DataFrame) -> pd.Series:
    """Return the number of seeds that each open comparison of `headline` needs."""
    rows = headline(compared)
    return rows.seeds_needed[rows.finding.isin([OPEN, UNKNOWN])] if len(rows) else pd.Series(dtype=float)
