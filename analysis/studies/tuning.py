"""Tuning: the values of some settings are chosen for each variant by its error on validation images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import mean
from typing import TYPE_CHECKING, Any

from condense_core.config import RETRAINING, RunConfig
from condense_core.store import FINISHED
from condense_core.tables import LEARNED

if TYPE_CHECKING:
    from condense_core.store import Run, RunStore

    from .config import StudyConfig
    from .variants import Variant

FIRST_SEED = 1_000_000  # of tuning: beyond the seeds of every result

Row = dict[str, Any]  # a `schemas.Trial`


@dataclass(frozen=True)
class Trial:
    """Values of the tuned settings that a variant is trained with; `variant` has them in its recipe."""

    variant: Variant
    values: Mapping[str, Any]

    def row(self, runs: Sequence[RunConfig]) -> Row:
        """Return the row of a study's record, before anything is known of its runs."""
        names = [run.name for run in runs]
        row = {"variant": self.variant.label, "values": dict(self.values), "runs": names, "chosen": False}
        return row | {"error_percent": None, "loss": None, "training_macs": 0, "seconds": 0.0}


def trials(config: StudyConfig, variants: Iterable[Variant]) -> Iterator[Trial]:
    """Yield what is tried: for each variant every combination of those settings that it depends on.

    Raise ValueError for a setting that no variant depends on.
    """
    variants, tune = list(variants), config.tune or {}
    for name in tune:
        if not any(_depends(variant, name) for variant in variants):
            raise ValueError(f"tune {name}: changes no variant of this study; tune another setting")
    for variant in variants:
        names = [name for name in tune if _depends(variant, name)]
        for chosen in product(*(tune[name] for name in names)) if names else ():
            values = dict(zip(names, chosen, strict=True))
            yield Trial(with_values(variant, values), values)


def _depends(variant: Variant, name: str) -> bool:
    """Return whether a setting of its recipe changes the training of a variant."""
    if name == "group_lasso":
        return variant.model.grouping in LEARNED
    return name != "retraining_rate" or variant.recipe.pruning in RETRAINING


def with_values(variant: Variant, values: Mapping[str, Any]) -> Variant:
    """Return a variant with other values in its recipe."""
    return replace(variant, recipe=replace(variant.recipe, **values)) if values else variant


def judged(rows: Iterable[Row], store: RunStore) -> list[Row]:
    """Return the rows with what their runs found, the best of each variant marked as chosen."""
    found = [_measured(row, [store.named(name) for name in row["runs"]]) for row in rows]
    best: dict[str, Row] = {}
    for row in found:
        if row["variant"] not in best or _rank(row) < _rank(best[row["variant"]]):
            best[row["variant"]] = row
    return [row | {"chosen": row is best[row["variant"]]} for row in found]


def are_finished(rows: Iterable[Row], store: RunStore) -> bool:
    """Return whether every run of the rows is done or diverged."""
    return all(store.named(name).status["state"] in FINISHED for row in rows for name in row["runs"])


def _rank(row: Row) -> tuple[float, float]:
    """Order values by their error. Errors are multiples of one image: of equal ones the loss decides."""
    error, loss = (math.inf if row[name] is None else row[name] for name in ("error_percent", "loss"))
    return error, loss


def _measured(row: Row, runs: list[Run]) -> Row:
    """Add the means over the runs of a row, which are None if a run diverged, and what they cost."""
    last = [run.epochs()[-1] if run.status["state"] == "done" else {} for run in runs]
    errors = [epoch.get("curve_error_percent") for epoch in last]
    return row | {
        "error_percent": _mean(errors),
        "errors_percent": errors,
        "loss": _mean(epoch.get("curve_loss") for epoch in last),
        "training_macs": sum(run.result.get("training_macs", 0) for run in runs),
        "seconds": sum(run.seconds() for run in runs),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else mean(known)  # type: ignore[type-var]
