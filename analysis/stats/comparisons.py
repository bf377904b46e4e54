"""All comparisons of a study as frames: effects, interactions, and differences to the base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.margin import MEANINGFUL, check_meaningful

from .contrasts import DIFFERENCE, INTERACTION, MAIN, Cells, Contrast, contrasts
from .estimates import Estimates, estimated
from .evidence import evidence_of
from .outcomes import Outcomes

EFFECT = ("factor", "level", "against")
NAMES_OF = {
    MAIN: EFFECT,
    INTERACTION: (*EFFECT, "other", "other_level", "other_against"),
    DIFFERENCE: ("variant",),
}
NAMES = dict.fromkeys(name for names in NAMES_OF.values() for name in names)


def comparisons(
    runs: pd.DataFrame, outcomes: Outcomes | None = None, meaningful: float = MEANINGFUL
) -> pd.DataFrame:
    """Return every comparison of a study with its interval; all intervals hold together with 95 %.

    `runs` is `frames.study_runs`. Without `outcomes` the intervals cover the seeds alone. `finding` says what
    is known at a margin of `meaningful` points. Raise ValueError for runs without roles and bad margins.
    """
    check_meaningful(meaningful)
    if runs.empty:
        return pd.DataFrame()
    if "role" not in runs:
        raise ValueError("runs: must be those of a study, with their roles (frames.study_runs, Study.run)")
    cells = Cells(runs)
    return compared(cells, contrasts(cells), outcomes, meaningful)


def effects(
    runs: pd.DataFrame, outcomes: Outcomes | None = None, meaningful: float = MEANINGFUL
) -> pd.DataFrame:
    """Return the main effects of a factorial grid, or the steps of a path: rows of `comparisons`."""
    return of_kind(comparisons(runs, outcomes, meaningful), MAIN)


def interactions(
    runs: pd.DataFrame, outcomes: Outcomes | None = None, meaningful: float = MEANINGFUL
) -> pd.DataFrame:
    """Return two-factor interactions, which are differences of differences: rows of `comparisons`."""
    return of_kind(comparisons(runs, outcomes, meaningful), INTERACTION)


def of_kind(compared: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the rows of a kind (main, interaction or difference), without the names that only others have."""
    if compared.empty:
        return compared
    others = [name for name in NAMES if name not in NAMES_OF[kind] and name in compared]
    return compared[compared.kind == kind].drop(columns=["kind", *others]).reset_index(drop=True)


def effects_by_seed(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the differences of `effects` in each seed, to show how much they vary by seed."""
    cells = Cells(runs)
    found = [contrast for contrast in contrasts(cells) if contrast.kind == MAIN] if len(runs) else []
    rows = [
        {**contrast.names, "seed": seed, "difference": difference}
        for contrast in found
        for seed, difference in cells.by_seed(contrast).items()
    ]
    return pd.DataFrame(rows, columns=[*EFFECT, "seed", "difference"])


def compared(
    cells: Cells,
    contrasts: Sequence[Contrast],
    outcomes: Outcomes | None = None,
    meaningful: float = MEANINGFUL,
) -> pd.DataFrame:
    """Return a frame of contrasts, corrected together. What is compared twice counts once."""
    family: dict[Any, Contrast] = {}
    for contrast in contrasts:
        family.setdefault(contrast.key, contrast)
    if not family:
        return pd.DataFrame()
    evidence, images = evidence_of(cells, list(family.values()), outcomes)
    table = _table(estimated(evidence), images, meaningful)
    places = {key: place for place, key in enumerate(family)}
    rows = table.iloc[[places[contrast.key] for contrast in contrasts]].reset_index(drop=True)
    signs = np.array([contrast.sign * family[contrast.key].sign for contrast in contrasts])
    half, difference = rows.pop("half_width"), rows.pop("difference") * signs
    ends = {"difference": difference, "low": difference - half, "high": difference + half}
    pairs = [contrast.pairs for contrast in contrasts]
    names = pd.DataFrame([{"kind": contrast.kind, **contrast.names} for contrast in contrasts])
    return pd.concat([names, pd.DataFrame(ends | {"p": rows.pop("p"), "pairs": pairs}), rows], axis=1)


def _table(estimates: Estimates, images: np.ndarray, meaningful: float) -> pd.DataFrame:
    """Return the columns of each comparison; `images` is how many test images it covers, 0 if none."""
    seen = np.where(images > 0, 1.0, np.nan)
    return pd.DataFrame(
        {
            "difference": estimates.evidence.difference,
            "half_width": estimates.half_width,
            "p": estimates.p,
            "seeds": estimates.evidence.seeds,
            "effect": estimates.found,
            "finding": estimates.verdicts(meaningful),
            "meaningful": meaningful,
            "covers": np.where(images > 0, "seeds and images", "seeds"),
            "se_seeds": estimates.se_seeds,
            "se_images": estimates.se_images * seen,
            "df": estimates.df,
            "half_width_next_seed": estimates.half_at(estimates.level, seeds=1),
            "half_width_twice_images": estimates.half_at(estimates.level, images=2) * seen,
            "seeds_needed": estimates.seeds_needed(meaningful),
            "images_needed": np.ceil(estimates.images_share(meaningful) * images) * seen,
        }
    )
