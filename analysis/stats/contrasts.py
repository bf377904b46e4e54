"""Comparisons as weighted sums of the cells of a study, on the same seeds for every cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import pandas as pd

from analysis.axes import AXES
from analysis.masks import MASK_QUESTIONS

from .intervals import ERROR

MAIN, INTERACTION, DIFFERENCE = KINDS = ("main", "interaction", "difference")
Signs = dict[str, int]  # variant: +1 or −1


@dataclass(frozen=True)
class Contrast:
    """A difference between variants: a weight for each of them, the seeds that have all, and its names."""

    kind: str
    names: dict[str, str]
    weights: dict[str, float]
    seeds: tuple[int, ...]
    pairs: int

    @property
    def sign(self) -> int:
        """+1 or −1: the direction of the difference, against that of `key`."""
        return 1 if self.weights[min(self.weights)] > 0 else -1

    @property
    def key(self) -> tuple[Any, ...]:
        """What is compared on which seeds, whichever side is subtracted."""
        weights = ((name, round(self.sign * weight, 9)) for name, weight in self.weights.items())
        return self.seeds, *sorted(weights)


@dataclass(frozen=True)
class Cells:
    """The runs of a study (`frames.study_runs`) as cells: a row per variant, a column per seed."""

    frame: pd.DataFrame

    @cached_property
    def errors(self) -> pd.DataFrame:
        """Test error of the finished runs, in percent."""
        return self._table(ERROR)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """Names of the finished runs."""
        return self._table("run")

    @cached_property
    def places(self) -> dict[str, int]:
        """The row of each variant."""
        return {str(name): row for row, name in enumerate(self.errors.index)}

    def _table(self, column: str) -> pd.DataFrame:
        done = self.frame[self.frame.state == "done"].drop_duplicates(["variant", "seed"])
        return done.pivot(index="variant", columns="seed", values=column)

    def contrast(self, kind: str, names: dict[str, str], signs: Sequence[Signs]) -> Contrast | None:
        """Return the mean of some combinations of variants, on the largest block of finished runs."""
        signs = [each for each in signs if self.places.keys() >= each.keys()]
        if not signs:
            return None
        done = ~np.isnan(self.errors.to_numpy(float))
        rows = [[self.places[name] for name in each] for each in signs]
        places, seeds = largest_block(np.array([done[row].all(0) for row in rows]))
        weights: dict[str, float] = {}
        for place in places:
            for name, sign in signs[place].items():
                weights[name] = weights.get(name, 0) + sign / len(places)
        columns = tuple(self.errors.columns[seeds])
        return Contrast(kind, names, weights, columns, places.size * seeds.size) if weights else None

    def by_seed(self, contrast: Contrast) -> pd.Series:
        """Return the difference in each seed, in points."""
        rows = [self.places[name] for name in contrast.weights]
        differences = np.array(list(contrast.weights.values())) @ self.errors.to_numpy(float)[rows]
        return pd.Series(differences, self.errors.columns)[list(contrast.seeds)]


def largest_block(done: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the largest block of True, with two columns or more if there are any.

    The columns are taken from the fullest one on. Of blocks of one size the one with more columns is returned.
    """
    order = np.argsort(-done.sum(0), kind="stable")
    sizes = np.array([(done[:, order[:count]].all(1).sum(), count) for count in range(1, len(order) + 1)])
    scores = sizes.prod(1) + np.where((sizes[:, 1] > 1) & (sizes[:, 0] > 0), done.size, 0)
    best = len(scores) - 1 - int(np.argmax(scores[::-1]))
    columns = np.sort(order[: best + 1])
    rows = np.flatnonzero(done[:, columns].all(1))
    return (rows, columns) if len(rows) else (rows, columns[:0])


def contrasts(cells: Cells) -> list[Contrast]:
    """Return what a report compares: effects, steps or questions, interactions, differences to the base."""
    frame = cells.frame
    grid = frame[frame.role.isin(["base", "grid"])]
    if known(frame, "path") and bool(frame.path.any()):
        found = list(_steps(cells, grid))
    elif (frame.role == "tracked").any():
        found = list(_tracked(cells))
    elif known(frame, "study") and bool((frame.study == "masks").any()):
        found = list(_mask_questions(cells, grid))
    else:
        grid = grid[grid.grouping != "none"]
        found = [*_main_effects(cells, grid), *_interactions(cells, grid)]
    found += [*_forks(cells), *_budgets(cells)]
    return [contrast for contrast in (*found, *_differences(cells)) if contrast]


def _forks(cells: Cells) -> Iterator[Contrast | None]:
    """Yield each fork against the runs that it left, which are those of the base."""
    roles = cells.frame.drop_duplicates("variant")
    base, forks = (roles[roles.role == role] for role in ("base", "fork"))
    for variant, level in zip(forks.variant, forks.fork, strict=True) if len(base) and len(forks) else ():
        names = {"factor": "fork", "level": str(level), "against": "none"}
        yield cells.contrast(MAIN, names, [{str(variant): 1, str(base.variant.iloc[0]): -1}])


def _budgets(cells: Cells) -> Iterator[Contrast | None]:
    """Yield the uneven budget against the base, whose layers have one condense factor."""
    variants = cells.frame.drop_duplicates("role").set_index("role").variant
    if {"base", "budget"} <= {*variants.index}:
        names = {"factor": "budget", "level": "uneven", "against": "uniform"}
        yield cells.contrast(MAIN, names, [{str(variants["budget"]): 1, str(variants["base"]): -1}])


def _steps(cells: Cells, grid: pd.DataFrame) -> Iterator[Contrast | None]:
    variants = dict(zip(grid.curve, grid.variant, strict=True))
    for before, step in pairwise(variants):
        names = {"factor": "step", "level": str(step), "against": str(before)}
        yield cells.contrast(MAIN, names, [{variants[step]: 1, variants[before]: -1}])


def _tracked(cells: Cells) -> Iterator[Contrast | None]:
    """Each variant of tracked runs against the first: what they differ in is known to their user alone."""
    variants = list(dict.fromkeys(map(str, cells.frame.variant)))
    for variant in variants[1:]:
        names = {"factor": "variant", "level": variant, "against": variants[0]}
        yield cells.contrast(MAIN, names, [{variant: 1, variants[0]: -1}])


def _mask_questions(cells: Cells, grid: pd.DataFrame) -> Iterator[Contrast | None]:
    variants = dict(zip(grid.curve, grid.variant, strict=True))
    for name, question in MASK_QUESTIONS.items():
        names = {"factor": name, "level": question.level, "against": question.against}
        if {question.level, question.against} <= variants.keys():
            signs = {str(variants[question.level]): 1, str(variants[question.against]): -1}
            yield cells.contrast(MAIN, names, [signs])


def _main_effects(cells: Cells, grid: pd.DataFrame) -> Iterator[Contrast | None]:
    table, levels = _factorial(grid)
    for factor in levels:
        for a, b in combinations(levels[factor], 2):
            sides = (({(factor, a)}, 1), ({(factor, b)}, -1))
            names = {"factor": factor, "level": str(a), "against": str(b)}
            yield cells.contrast(MAIN, names, _signs(table, sides, factor))


def _interactions(cells: Cells, grid: pd.DataFrame) -> Iterator[Contrast | None]:
    table, levels = _factorial(grid)
    for factor, other in combinations([name for name in levels if len(levels[name]) > 1], 2):
        for (a, b), (c, d) in product(combinations(levels[factor], 2), combinations(levels[other], 2)):
            signs = ((a, c, 1), (b, c, -1), (a, d, -1), (b, d, 1))
            corners = [({(factor, x), (other, y)}, sign) for x, y, sign in signs]
            names = {"factor": factor, "level": str(a), "against": str(b)}
            names |= {"other": other, "other_level": str(c), "other_against": str(d)}
            yield cells.contrast(INTERACTION, names, _signs(table, corners, factor, other))


def _differences(cells: Cells) -> Iterator[Contrast | None]:
    base = cells.frame[cells.frame.role == "base"].variant
    for variant in dict.fromkeys(cells.frame.variant) if len(base) else ():
        if variant != base.iloc[0]:
            signs = [{str(variant): 1, str(base.iloc[0]): -1}]
            yield cells.contrast(DIFFERENCE, {"variant": str(variant)}, signs)


Cell = frozenset[tuple[str, Any]]


def _factorial(grid: pd.DataFrame) -> tuple[dict[Cell, str], dict[str, list[Any]]]:
    """Return the variant of each combination of levels, and the levels of each factor."""
    axes = known(grid, *AXES)
    cells = grid.drop_duplicates("variant")
    table = {
        frozenset(zip(axes, row[:-1], strict=True)): str(row[-1])
        for row in cells[[*axes, "variant"]].itertuples(index=False, name=None)
    }
    return table, {axis: list(dict.fromkeys(grid[axis])) for axis in axes}


def _signs(
    table: dict[Cell, str], sides: Sequence[tuple[set[tuple[str, Any]], int]], *varied: str
) -> list[Signs]:
    """Return the variants of every combination of the other factors that has all sides."""
    rests = dict.fromkeys(frozenset(item for item in cell if item[0] not in varied) for cell in table)
    found = ({table.get(rest | side): sign for side, sign in sides} for rest in rests)
    return [{name: sign for name, sign in signs.items() if name} for signs in found if None not in signs]


def known(frame: pd.DataFrame, *names: str) -> list[str]:
    """Return the given columns that a frame has: older stores have fewer."""
    return [name for name in names if name in frame]
