"""Simulate studies whose truth is known: how often does a study announce what is not so?

    python benchmarks/intervals.py [--studies 2000 --budget 400 --jobs 2]

A run's true error is 2.5 % + shifts of its levels by its seed + a shift of its own. Which test images it gets
wrong follows from their difficulty, which is partly shared: by all runs, by those of a level, and of a variant.
docs/statistics.md shows the result, benchmarks/results/coverage.json keeps it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import click
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from save_result import RESULTS, save_result
from scipy import special, stats as scipy_stats

from analysis.axes import AXES
from analysis.plots import COLOURS
from analysis.plots.style import style
from analysis.stats import Cells, Contrast, Evidence, contrasts, estimated, image_covariance

SHIFT, OWN = 0.41, 0.52  # standard deviation of a seed's shift of a level and of a variant, as in real studies
SHARED, BY_LEVEL, BY_VARIANT = 0.5, 0.05, 0.1  # of an image's difficulty; the rest is a run's own
SEEDS, IMAGES = (2, 3, 5, 10, 20), (600, 10_000)


@dataclass(frozen=True)
class Design:
    """The variants of a study, and its comparisons as the workbench makes them of a frame of runs."""

    seeds: int
    levels: tuple[int, ...]
    others: int
    path: bool

    @cached_property
    def cells(self) -> list[tuple[str, ...]]:
        """The level of each factor in each variant of the grid."""
        names = (
            tuple(f"{axis} {place}" for place in range(n)) for axis, n in zip(AXES, self.levels, strict=False)
        )
        return [*product(*names)]

    @property
    def variants(self) -> int:
        """The grid, and dense variants and other sizes."""
        return len(self.cells) + self.others

    @cached_property
    def contrasts(self) -> list[Contrast]:
        """Main effects or steps, interactions and differences to the base, each comparison once."""
        rows = []
        for place in range(self.variants):
            cell = self.cells[place] if place < len(self.cells) else (f"other {place}",) * len(self.levels)
            role = "base" if place == 0 else "grid" if place < len(self.cells) else "reference"
            about = (
                {"grouping": "given"} | dict(zip(AXES, cell, strict=False)) | {"role": role, "path": self.path}
            )
            about |= {
                "variant": f"{place:02}",
                "curve": f"{place:02}",
                "state": "done",
                "test_error_percent": 1.0,
            }
            rows += [{**about, "seed": seed, "run": ""} for seed in range(self.seeds)]
        found = contrasts(Cells(pd.DataFrame(rows)))
        return list({contrast.key: contrast for contrast in reversed(found)}.values())[::-1]

    @cached_property
    def weights(self) -> np.ndarray:
        """(comparisons, variants)."""
        weights = np.zeros((len(self.contrasts), self.variants))
        for row, contrast in zip(weights, self.contrasts, strict=True):
            row[[int(name) for name in contrast.weights]] = list(contrast.weights.values())
        return weights

    @cached_property
    def kind(self) -> np.ndarray:
        """The kind of each comparison."""
        return np.array([contrast.kind for contrast in self.contrasts])

    def rows(self, factor: int, level: str) -> np.ndarray:
        """Return which variants have a level: bool (variants,)."""
        return np.array([cell[factor] == level for cell in self.cells] + [False] * self.others)


@dataclass(frozen=True)
class Scenario:
    """What is true in a study. `shift` has the seeds' standard deviation for each factor, in points."""

    name: str
    mean: float = 2.5
    shift: tuple[float, ...] = (SHIFT,) * 3
    own: float = OWN
    effect: float = 0.0
    interaction: float = 0.0
    loud: tuple[int, float] | None = None  # a variant whose own shifts are so many times as large
    loud_level: float = 1.0  # times the shifts of learned groups, and so many times less those of the others
    heavy: bool = False
    outliers: float = 0.0  # share of the seeds with four times the shifts
    relative: bool = False  # shifts multiply the error: near 0
    drawn: bool = False  # every seed draws its test images, a third of all

    levels: tuple[int, ...] = (3, 2, 2)
    others: int = 10
    path: bool = False

    def design(self, seeds: int) -> Design:
        """Return the study that is simulated."""
        return Design(seeds, self.levels, self.others, self.path)

    def truth(self, design: Design) -> np.ndarray:
        """Return the true error of each variant, in percent."""
        first = design.rows(0, design.cells[0][0])
        both = first & design.rows(len(self.levels) - 1, design.cells[0][-1])
        return self.mean + self.effect * first + self.interaction * both

    def runs(self, design: Design, draws: np.random.Generator) -> np.ndarray:
        """Draw the true errors of a study's runs, in percent: (variants, seeds)."""
        moved = self._shifts(design, draws)
        if self.outliers:
            moved = moved * np.where(draws.random(design.seeds) < self.outliers, 4, 1)
        truth = self.truth(design)[:, None]
        return np.clip(truth * np.exp(moved) if self.relative else truth + moved, 0, 100)

    def _shifts(self, design: Design, draws: np.random.Generator) -> np.ndarray:
        moved = self._draw(draws, design.variants, design.seeds) * self.own
        if self.loud:
            moved[self.loud[0]] *= self.loud[1]
        for factor, levels in enumerate(zip(*design.cells, strict=True)):
            for level in dict.fromkeys(levels):
                loud = 1 if factor else self.loud_level if level == levels[0] else 1 / self.loud_level
                rows = design.rows(factor, level)
                moved[rows] += self._draw(draws, design.seeds) * self.shift[factor] * loud
        spread = float(np.linalg.norm(self.shift[: len(self.levels)]))
        moved[len(design.cells) :] += self._draw(draws, self.others, design.seeds) * spread
        return moved

    def _draw(self, draws: np.random.Generator, *shape: int) -> np.ndarray:
        return draws.standard_t(3, shape) / np.sqrt(3) if self.heavy else draws.standard_normal(shape)


SCENARIOS = (
    Scenario("nothing differs"),
    Scenario("one level differs by 0.5", effect=0.5),
    Scenario("one level differs by 1", effect=1.0),
    Scenario("two levels interact by 1", interaction=1.0),
    Scenario("half the scatter", shift=(SHIFT / 2,) * 3, own=OWN / 2),
    Scenario("twice the scatter", mean=6, shift=(2 * SHIFT,) * 3, own=2 * OWN),
    Scenario("one factor scatters three times as much", mean=6, shift=(SHIFT, SHIFT, 3 * SHIFT)),
    Scenario("one variant scatters four times as much", mean=8, loud=(0, 4.0)),
    Scenario(
        "one level scatters nine times as much as the others", mean=8, shift=(0.8, SHIFT, SHIFT), loud_level=3
    ),
    Scenario("heavy tails: Student's t, 3 degrees of freedom", mean=6, heavy=True),
    Scenario("every tenth seed scatters four times as much", mean=12, outliers=0.1),
    Scenario("errors near 0: 0.3 %", mean=0.3, shift=(0.3,) * 3, own=0.3, relative=True),
    Scenario("every seed draws its test images", drawn=True),
    Scenario("two variants", levels=(2,), others=0),
    Scenario("a path of four steps", levels=(4,), others=0, path=True),
    Scenario(
        "2 × 2 variants, one factor scatters three times as much",
        6,
        (SHIFT, 3 * SHIFT),
        levels=(2, 2),
        others=0,
    ),
    Scenario("3 × 2 × 2, one factor scatters three times as much", 6, (SHIFT, SHIFT, 3 * SHIFT), others=0),
    Scenario("3 × 2 × 2, one factor scatters five times as much", 8, (0.2, 0.2, 1.0), 0.3, others=0),
)


def answers(errors: np.ndarray, design: Design, images: int, draws: np.random.Generator) -> np.ndarray:
    """Draw which test images the runs of a study get wrong: bool (variants, seeds, images)."""

    def normal(*shape: int) -> np.ndarray:
        return draws.standard_normal(shape, dtype=np.float32)

    hardness = np.sqrt(SHARED) * normal(images) + np.sqrt(BY_VARIANT) * normal(len(errors), images)
    for factor, levels in enumerate(zip(*design.cells, strict=True)):
        for level in dict.fromkeys(levels):
            hardness[design.rows(factor, level)] += np.sqrt(BY_LEVEL) * normal(images)
    by_level = BY_LEVEL * len(design.levels)
    hardness[len(design.cells) :] += np.sqrt(by_level) * normal(design.others, images)
    own = np.sqrt(1 - SHARED - by_level - BY_VARIANT) * normal(*errors.shape, images)
    limit = special.ndtri(errors / 100).astype(np.float32)
    return np.asarray(hardness[:, None] + own < limit[..., None])


def measured(scenario: Scenario, design: Design, images: int, draws: np.random.Generator) -> tuple[Any, Any]:
    """Return the measured errors of a study (variants, seeds) and their covariance from the images."""
    errors, pool = scenario.runs(design, draws), 3 * images if scenario.drawn else images
    wrong = answers(errors, design, pool, draws)
    tested = np.ones((design.seeds, pool), bool)
    if scenario.drawn:
        tested = draws.permuted(np.arange(pool) < images + np.zeros((design.seeds, 1)), axis=1)
    found = 100 * (wrong & tested).sum(-1) / images
    table = np.where(tested, (100 * wrong - found[..., None]) / images, 0)
    return found, image_covariance(table.astype(np.float32)) if design.seeds > 1 else 0


def evidence(design: Design, errors: np.ndarray, covariance: np.ndarray, images: int) -> Evidence:
    """Return the evidence of studies: errors (studies, variants, seeds) → (studies, comparisons)."""
    weights = design.weights
    by_seed, norm = weights @ errors, (weights**2).sum(1)
    variance = np.einsum("mk,...kl,ml->...m", weights, covariance, weights, optimize=True)
    floor = (100 / images) ** 2 / 2 * norm
    return Evidence(
        difference=by_seed.mean(-1),
        scatter=by_seed.var(-1, ddof=1),
        images=np.maximum(variance, floor),
        seeds=np.full(len(norm), design.seeds),
        norm=norm,
        kind=design.kind,
        rounding=np.full(len(norm), (100 / images) ** 2 / 12),
        rank=int(np.linalg.matrix_rank(weights)),
    )


def pairs_before(design: Design, place: int, errors: np.ndarray) -> np.ndarray:
    """Return the differences that the method of before took as independent: (studies, pairs)."""
    contrast, signs = design.contrasts[place], np.sign(design.weights[place])
    varied = {contrast.names.get("factor"), contrast.names.get("other")}
    axes = AXES[: len(design.levels)]
    held: list[Any] = [
        tuple(level for level, axis in zip(cell, axes, strict=True) if axis not in varied)
        for cell in design.cells
    ]
    held += [None] * design.others
    groups = list(dict.fromkeys(held[row] for row in np.flatnonzero(signs)))
    if contrast.kind == "difference" or design.path:
        held, groups = [None] * design.variants, [None]
    parts = [signs * np.array([each == group for each in held]) for group in groups]
    return np.concatenate([np.einsum("k,rkn->rn", part, errors) for part in parts], axis=-1)


def before(design: Design, errors: np.ndarray) -> np.ndarray:
    """Return half widths of the method of before: pairs as the unit, Holm for effects and for interactions."""
    samples = [pairs_before(design, place, errors) for place in range(len(design.kind))]
    error = np.stack([each.std(-1, ddof=1) / np.sqrt(each.shape[-1]) for each in samples], -1)
    mean = np.stack([each.mean(-1) for each in samples], -1)
    df = np.array([each.shape[-1] - 1 for each in samples])
    level = np.full(mean.shape, 0.05)
    for kind in ("main", "interaction"):
        rows = design.kind == kind
        if not rows.any():
            continue
        p = 2 * scipy_stats.t.sf(np.abs(mean[:, rows]) / np.maximum(error[:, rows], 1e-12), df[rows])
        level[:, rows] = holm_levels(p)
    return -scipy_stats.t.ppf(level / 2, df) * error


def holm_levels(p: np.ndarray) -> np.ndarray:
    """Return the level of each interval after Holm: (studies, comparisons)."""
    count = p.shape[-1]
    steps = 0.05 / (count - np.arange(count))
    order = np.argsort(p, axis=-1)
    passed = np.cumprod(np.take_along_axis(p, order, -1) < steps, axis=-1).astype(bool)
    first = np.minimum(passed.sum(-1), count - 1)
    levels = np.where(passed, steps, steps[first][:, None])
    return np.take_along_axis(levels, np.argsort(order, axis=-1), -1)


def plain(found: Evidence) -> np.ndarray:
    """Return half widths of a paired t test over the seeds for each comparison alone."""
    return -scipy_stats.t.ppf(0.025, found.seeds - 1) * np.sqrt(found.scatter / found.seeds)


def score(design: Design, difference: np.ndarray, half: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Return what a method does in many studies: (studies, comparisons), in percent and points."""
    truth = np.where(np.abs(truth) < 1e-9, 0, truth)
    shown, covered = np.abs(difference) > half, np.abs(difference - truth) <= half
    false = shown & (np.sign(difference) != np.sign(truth))
    real = truth != 0
    power = {kind: shown[:, real & (design.kind == kind)] for kind in ("main", "interaction")}
    return {
        "false_findings": percent(false.any(-1).mean()),
        "false_effects": percent(false[:, design.kind == "main"].any(-1).mean()),
        "coverage": percent(covered.mean()),
        "least_coverage": percent(covered.mean(0).min()),
        "all_covered": percent(covered.all(-1).mean()),
        "half_width": {
            kind: round(float(half[:, design.kind == kind].mean()), 3) for kind in dict.fromkeys(design.kind)
        },
        "power": {kind: percent(each.mean()) for kind, each in power.items() if each.size},
    }


def percent(share: float) -> float:
    """Return a share in percent, to two digits."""
    return round(100 * float(share), 2)


def simulate(scenario: Scenario, seeds: int, images: int, studies: int) -> dict[str, Any]:
    """Simulate studies of one kind; return the scores of each method."""
    design, draws = scenario.design(seeds), np.random.default_rng([seeds, images, *scenario.name.encode()])
    drawn = [measured(scenario, design, images, draws) for _ in range(studies)]
    errors, covariance = (np.stack(part) for part in zip(*drawn, strict=True))
    found = evidence(design, errors, covariance, images)
    without = replace(found, images=np.zeros_like(found.images))
    halves = {
        "seeds and images": estimated(found).half_width,
        "seeds alone": estimated(without).half_width,
        "before": before(design, errors),
        "plain t": plain(found),
    }
    truth = design.weights @ scenario.truth(design)
    scores = {name: score(design, found.difference, half, truth) for name, half in halves.items()}
    se_images = float(np.sqrt(found.images[:, design.kind == "main"]).mean())
    about = {"scenario": scenario.name, "seeds": seeds, "images": images, "studies": studies}
    return about | {"se_images": round(se_images, 3), "methods": scores}


@click.command()
@click.option(
    "--studies", type=click.IntRange(10), default=2000, show_default=True, help="at most, of each kind"
)
@click.option(
    "--budget", type=click.IntRange(1), default=400, show_default=True, help="million answers per kind"
)
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True)
@click.option("--figure", is_flag=True, help="only draw the saved result again")
def intervals(studies: int, budget: int, jobs: int, figure: bool) -> None:
    """Simulate, print a table and save the result with its figure."""
    if figure:
        save_figure(json.loads((RESULTS / "coverage.json").read_text())["rows"])
        return
    start, kinds = time.perf_counter(), [*product(SCENARIOS, SEEDS, IMAGES)]
    counts = [
        max(10, min(studies, budget * 10**6 // (seeds * images * scenario.design(seeds).variants)))
        for scenario, seeds, images in kinds
    ]
    click.echo(HEADING)
    rows = []
    with ProcessPoolExecutor(jobs) as pool:
        for row in pool.map(simulate, *zip(*kinds, strict=True), counts):
            rows.append(row)
            click.echo(line(row))
    seconds = round(time.perf_counter() - start)
    click.echo(f"{seconds} s with {jobs} at once")
    save_result("coverage", seconds=seconds, rows=rows)
    save_figure(rows)


HEADING = (
    f"{'scenario':<57}{'seeds':>6}{'images':>7}{'studies':>8}  false findings %: new, seeds alone, before, "
    "plain t | coverage %: mean, least | half widths | standard error of the images, power %"
)


def line(row: dict[str, Any]) -> str:
    """Return a row of the table as text."""
    new, methods = row["methods"]["seeds and images"], row["methods"]
    false = "".join(f"{each['false_findings']:7.1f}" for each in methods.values())
    covered = "".join(f"{new[name]:7.1f}" for name in ("coverage", "least_coverage"))
    widths = "".join(f"{width:7.2f}" for width in new["half_width"].values())
    about = f"{row['scenario']:<57}{row['seeds']:>6}{row['images']:>7}{row['studies']:>8}"
    return f"{about}{false} |{covered} |{widths} | {row['se_images']:.3f} {new['power']}"


METHODS = ("seeds and images", "seeds alone", "before", "plain t")


def save_figure(rows: list[dict[str, Any]]) -> None:
    """Draw false findings, width and power by the number of seeds, with 600 test images."""
    with style():
        figure = Figure(figsize=(10, 3.4))
        false, width, power = figure.subplots(1, 3)
        for name in dict.fromkeys(row["scenario"] for row in rows):
            draw(false, rows, name, METHODS[0], lambda found: found["false_findings"], color="0.75", lw=0.8)
        for place, method in enumerate(METHODS):
            look = {"color": COLOURS[place], "marker": "osDv"[place], "ms": 5, "lw": 1.6, "label": method}
            draw(false, rows, "nothing differs", method, lambda found: found["false_findings"], **look)
            draw(width, rows, "nothing differs", method, lambda found: found["half_width"]["main"], **look)
            draw(power, rows, "one level differs by 1", method, lambda found: found["power"]["main"], **look)
        false.axhline(6, color="0.5", ls=":", lw=1)
        width.set_yscale("log")
        width.set_yticks([0.25, 0.5, 1, 2, 4], ["0.25", "0.5", "1", "2", "4"])
        titles = (
            "Studies with a false finding (%)",
            "Half width of a main effect (points)",
            "A difference of 1 found (%)",
        )
        for axes, title in zip((false, width, power), titles, strict=True):
            axes.set_title(title, fontsize="medium", loc="left")
            axes.set_xscale("log")
            axes.set_xticks(SEEDS, [str(number) for number in SEEDS])
            axes.minorticks_off()
            axes.set_xlabel("Seeds")
        figure.legend(*false.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    for suffix in ("svg", "png"):
        figure.savefig(
            RESULTS / f"coverage.{suffix}", dpi=150, metadata={"Date": None} if suffix == "svg" else {}
        )


def draw(
    axes: Axes,
    rows: list[dict[str, Any]],
    scenario: str,
    method: str,
    value: Callable[[Any], float],
    **look: Any,
) -> None:
    """Draw what a method does in a scenario by the number of seeds, with 600 test images."""
    part = [row for row in rows if row["scenario"] == scenario and row["images"] == IMAGES[0]]
    axes.plot([row["seeds"] for row in part], [value(row["methods"][method]) for row in part], **look)


if __name__ == "__main__":
    intervals()
