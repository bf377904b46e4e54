"""Uneven budgets: a condense factor for each layer instead of one for all, at the same MACs.

The idea: a layer that loses its inputs cheaply pays for one that does not. What each factor costs is read off
the run's sensitivity, in which every layer is pruned alone, and added up as if the layers did not interact.
To choose a factor for each layer, with the least sum within the MACs of the uniform network, is a
multiple-choice knapsack. Dynamic programming over MACs solves it exactly, as in SPDY (Frantar and Alistarh,
ICML 2022).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.networks import find_run
from condense_core.config import ModelConfig
from condense_core.cost import cost_table
from condense_core.store import Run, RunStore

from .variants import Variant, check_residual

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PREFIX = "from:"
FACTORS = range(1, 9)  # a sensitivity prunes up to 7/8 of a layer
MAX_STEPS = 100_000  # of MACs: where sizes have no large common divisor, costs are rounded up to so many


def budget_run(setting: str, store: RunStore, base: ModelConfig) -> Run:
    """Return the run that a setting 'from:RUN' names. Raise ValueError unless it trained the base's network."""
    run = find_run(setting.removeprefix(PREFIX), store)
    if run.folder.parent.resolve() != store.root.resolve():
        raise ValueError(f"budget {setting!r}: must be a run of the store {store.root}")
    if run.config.model != base:
        differs = [name for name, own in vars(base).items() if getattr(run.config.model, name) != own]
        raise ValueError(
            f"budget {setting!r}: must be a run of the base's network ({base.label}); differs in "
            f"{', '.join(differs)}"
        )
    return run


def budget_variant(base: Variant, run: Run, data_dir: Path, keep: bool = True) -> Variant:
    """Return the base with a condense factor for each layer, by the sensitivity of a run of its network.

    The sensitivity is taken once and kept with the run, if it may be. Raise ValueError or FileNotFoundError if
    there is none, or if there are no such factors but the base's own.
    """
    from analysis.layer_sensitivity import kept_sensitivity

    factors = uneven_factors(kept_sensitivity(run, data_dir, keep)[0], base.model)
    model = replace(base.model, condense_factors=factors)
    own, uneven = (cost_table(each) for each in (base.model, model))
    if own == uneven:
        raise ValueError(f"budget 'from:{run.name}': gives every layer the base's share; nothing is to compare")
    variant = replace(
        base,
        model=model,
        role="budget",
        residual=uneven.macs / own.macs - 1,
        label=f"{base.label} uneven",
        curve=None,
        masks="",
    )
    check_residual(variant)
    return variant


def uneven_factors(curves: pd.DataFrame, model: ModelConfig) -> tuple[int, ...]:
    """Return the condense factor of each layer, with the least sum of predicted rises of the loss.

    `curves` are those of `layer_sensitivity`, of which the loss with statistics taken anew counts. The MACs are
    at most those of `model`, whose layers have one factor. Raise ValueError if that is beyond the curves.
    """
    import numpy as np

    costs = np.array([_macs(replace(model, condense_factors=None, condense_factor=c)) for c in FACTORS]).T
    shares = 1 - costs / costs[:, :1]  # of its inputs that a layer loses
    by_layer = [own.sort_values("share") for _, own in curves.groupby("target", sort=False)]
    if len(by_layer) != len(costs):
        raise ValueError(f"sensitivity: is of {len(by_layer)} layers; the network has {len(costs)}")
    rises = np.array([_rises(own, share) for own, share in zip(by_layer, shares, strict=True)])
    try:
        return tuple(FACTORS[choice] for choice in cheapest(rises, costs, sum(_macs(model))))
    except ValueError:
        raise ValueError(
            f"condense_factor {model.condense_factor}: an uneven budget needs {FACTORS[-1]} or less, because a "
            f"sensitivity prunes at most {FACTORS[-1] - 1}/{FACTORS[-1]} of a layer"
        ) from None


def _macs(model: ModelConfig) -> list[int]:
    """Return the final MACs of each 1×1 layer."""
    return [layer.macs for layer in cost_table(model).layers if layer.operator == "conv1x1"]


def _rises(curve: pd.DataFrame, shares: np.ndarray) -> np.ndarray:
    """Return by how much the loss of a layer's curve rises at each share: never less at a larger one."""
    import numpy as np
    from scipy.optimize import isotonic_regression

    loss = isotonic_regression(curve.loss_anew.to_numpy(float)).x
    return np.interp(shares, curve.share, loss - loss[0])


def cheapest(values: np.ndarray, costs: np.ndarray, budget: int) -> list[int]:
    """Return a choice for each item, (items, choices): the least sum of values whose costs fit the budget.

    Of equal sums the dearest. Raise ValueError if nothing fits.
    """
    import numpy as np

    unit = max(int(np.gcd.reduce(costs, axis=None)), -(-budget // MAX_STEPS))
    steps, room = -(-costs // unit), budget // unit
    best = np.full(room + 1, np.inf)  # the least sum that costs exactly so many steps
    best[0] = 0
    chosen = []
    for value, step in zip(values, steps, strict=True):
        sums = np.full((len(step), room + 1), np.inf)
        for choice, (own, size) in enumerate(zip(value, step, strict=True)):
            if size <= room:
                sums[choice, size:] = best[: room + 1 - size] + own
        chosen.append(sums.argmin(0))
        best = sums.min(0)
    if not np.isfinite(best.min()):
        raise ValueError(f"budget {budget}: nothing fits")
    place, found = int(np.flatnonzero(best == best.min())[-1]), []
    for choices, step in zip(reversed(chosen), steps[::-1], strict=True):
        found.append(int(choices[place]))
        place -= int(step[found[-1]])
    return found[::-1]
