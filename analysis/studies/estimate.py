"""The plan of a study before it is run: MACs, parameters, seconds and state of every run."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean
from typing import TYPE_CHECKING, Any

from analysis.text import count
from condense_core.config import RunConfig
from condense_core.cost import cost_table
from condense_core.store import FINISHED, final_stage

from .step_times import StepTime, dense_macs, time_image

if TYPE_CHECKING:
    from condense_core.store import RunStore

    from .study import Planned, Study
    from .variants import Variant

EVALUATION_SHARE = 1 / 3  # of an image's training time: the forward pass alone


PLAN_COLUMNS = ("run", "variant", "to base", "seed", "MACs", "params", "seconds", "state")


def plan(study: Study, store: RunStore) -> list[dict[str, Any]]:
    """Return one row per run: variant, residual, seed, cost, state, estimated seconds in all and remaining.

    A run that waits for the tuning has no name yet.
    """
    planned = study.planned()
    states = {run.config.name: store.run(run.config).status["state"] for run in planned if run.is_known}
    seconds = _seconds_per_run(study, planned, store, states)
    rows = []
    for run in planned:
        variant, config, is_known = run.variant, run.config, run.is_known
        cost, state = (
            cost_table(variant.model, final_stage(config)),
            states[config.name] if is_known else "waiting",
        )
        rows.append(
            {
                "run": config.name if is_known else None,
                "variant": variant.label,
                "role": run.role,
                "values": dict(run.values),
                "residual": variant.residual,
                "seed": config.seed,
                "macs": cost.macs,
                "flops_paper": cost.flops_paper,
                "params": cost.params,
                "estimated_seconds": seconds[variant].seconds,
                "is_extrapolated": seconds[variant].is_extrapolated,
                "remaining_seconds": seconds[variant].seconds * _share_left(config, store, state),
                "state": state,
            }
        )
    return rows


def plan_rows(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of a plan as texts under `PLAN_COLUMNS`."""
    return [
        (
            row["run"] or "named once settings are chosen",
            " ".join([row["variant"], *(f"{name}={value}" for name, value in row["values"].items())]),
            f"{100 * row['residual']:+.1f} %",
            str(row["seed"]),
            count(row["macs"]),
            count(row["params"]),
            f"{row['estimated_seconds']:.1f}",
            row["state"],
        )
        for row in rows
    ]


def _share_left(config: RunConfig, store: RunStore, state: str) -> float:
    """Return the fraction of a run to train: it resumes from a checkpoint shortly before its last epoch."""
    if state in FINISHED:
        return 0.0
    return 1.0 if state == "waiting" else 1 - len(store.run(config).epochs()) / config.recipe.epochs


def _seconds_per_run(
    study: Study, planned: list[Planned], store: RunStore, states: dict[str, str]
) -> dict[Variant, StepTime]:
    """Return the mean of a variant's finished runs, or an estimate if it has none."""
    measured: dict[Variant, list[float]] = {}
    for run in planned:
        if run.is_known and states[run.config.name] == "done":
            measured.setdefault(run.variant, []).append(store.run(run.config).seconds())
    estimated = _estimates(study, {run.variant: run.config for run in planned if run.variant not in measured})
    return estimated | {variant: StepTime(mean(values), False) for variant, values in measured.items()}


def _estimates(study: Study, configs: dict[Variant, RunConfig]) -> dict[Variant, StepTime]:
    """Return the seconds that a run of each variant takes, by steps that are timed here."""
    if not configs:
        return {}
    seconds = _seconds_per_image(list(configs.values()), study.data.train_images)
    return {
        variant: StepTime(seconds(run).seconds * _images(study, run), seconds(run).is_extrapolated)
        for variant, run in configs.items()
    }


def _images(study: Study, run: RunConfig) -> float:
    """Return how many images a run sees; an evaluated one counts as the fraction of its time."""
    config, data, epochs = study.config, study.data, run.recipe.epochs
    validation = config.validation_fraction * data.train_images or data.test_images
    train = config.train_images or (1 - config.validation_fraction) * data.train_images
    evaluations = epochs + 2 * (run.model.last_stage + 1)
    return epochs * train + EVALUATION_SHARE * (evaluations * validation + data.test_images)


def _seconds_per_image(configs: list[RunConfig], train_images: int) -> Callable[[RunConfig], StepTime]:
    """Return seconds per training image by MACs: a line through the cheapest and the costliest, timed here.

    Beyond what can be timed in seconds, the time is extrapolated from a smaller network.
    """
    low, high = (pick(configs, key=lambda config: dense_macs(config.model)) for pick in (min, max))
    base, span = time_image(low, train_images), dense_macs(high.model) - dense_macs(low.model)
    top = time_image(high, train_images) if span else base
    slope = max(0.0, (top.seconds - base.seconds) / span) if span else 0.0

    def at(config: RunConfig) -> StepTime:
        beyond = dense_macs(config.model) - dense_macs(low.model)
        guessed = base.is_extrapolated or (top.is_extrapolated and beyond > 0)
        return StepTime(base.seconds + slope * beyond, guessed)

    return at
