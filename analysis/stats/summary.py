"""One row per variant: cost, error with its interval, difference to the base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.axes import AXES
from analysis.margin import MEANINGFUL

from .comparisons import comparisons, of_kind
from .contrasts import DIFFERENCE, Cells, known
from .intervals import CONFIDENCE, ERROR
from .outcomes import Outcomes

COSTS = ("macs", "flops_paper", "params", "training_macs")
COMPARED = {"difference": "difference", "low": "difference_low", "high": "difference_high"}
COMPARED |= {name: name for name in ("finding", "meaningful", "covers", "seeds_needed", "images_needed")}


def summary(
    runs: pd.DataFrame, outcomes: Outcomes | None = None, meaningful: float = MEANINGFUL
) -> pd.DataFrame:
    """Return one row per variant: cost, test error (mean, deviation, interval, n), difference to the base.

    Only finished runs count; `runs` is `frames.study_runs`. The rows are in the study's order, base first. The
    interval of an error stands alone; those of the differences hold together with all of `comparisons`.
    """
    return summarised(runs, comparisons(runs, outcomes, meaningful), outcomes)


def summarised(runs: pd.DataFrame, compared: pd.DataFrame, outcomes: Outcomes | None = None) -> pd.DataFrame:
    """Return `summary` from a study's comparisons, which take longest."""
    if runs.empty:
        return pd.DataFrame()
    differences = of_kind(compared, DIFFERENCE)
    by_variant = differences.set_index("variant") if len(differences) else pd.DataFrame()
    cells, done = Cells(runs), runs[runs.state == "done"]
    columns = known(runs, "role", "size", "residual", "curve", "path", "study", *AXES, "growth_rate")
    rows = []
    for variant, asked in runs.groupby("variant", sort=False):
        part, first = done[done.variant == variant], asked.iloc[0]
        costs = {name: part[name].max() for name in COSTS}
        rows.append(
            {"variant": variant, **first[columns], **costs, **_error(cells, part, outcomes)}
            | {"seeds": first.seeds, **_difference(by_variant, variant)}
        )
    return pd.DataFrame(rows)


def _error(cells: Cells, part: pd.DataFrame, outcomes: Outcomes | None) -> dict[str, Any]:
    """Return the mean error of a variant's runs and its own 95 % interval, within 0 to 100 %."""
    errors = part[ERROR].dropna()  # a tracked run need not be tested
    n = len(errors)
    mean, sd = errors.mean(), errors.std(ddof=1)
    images = 0.0
    if n > 1 and outcomes is not None and all(map(outcomes.has, part.run)):
        images = max(0.0, outcomes.covariance(part.run.to_numpy()[None])[0, 0])
    t, z = stats.t.ppf((1 + CONFIDENCE) / 2, max(n - 1, 1)), stats.norm.ppf((1 + CONFIDENCE) / 2)
    half = np.sqrt(t**2 * sd**2 / n + z**2 * images) if n > 1 else np.nan
    ends = {"error_low": max(0.0, mean - half), "error_high": min(100.0, mean + half)} if n > 1 else {}
    return {"error_mean": mean, "error_sd": sd, "error_low": np.nan, "error_high": np.nan, **ends, "n": n}


def _difference(compared: pd.DataFrame, variant: object) -> dict[str, Any]:
    if variant not in compared.index:
        return dict.fromkeys(COMPARED.values(), np.nan) | {"pairs": 0}
    row = compared.loc[variant]
    return {name: row.get(column, np.nan) for column, name in COMPARED.items()} | {"pairs": row.seeds}


def pareto(costs: Sequence[float] | np.ndarray, errors: Sequence[float] | np.ndarray) -> list[int]:
    """Return the indices of the points that no other point beats in cost and error, by cost."""
    front: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], errors[i])):
        if not front or errors[i] < errors[front[-1]]:
            front.append(i)
    return front
