"""Measure how the time of a training step grows with MACs, batch, layers, groups and condense factor.

    python benchmarks/step_time.py [--threads 2 --repeats 3]

Each quantity is varied alone, up to about 30 times its smallest value, in both executions, which take turns.
Seconds are medians; an exponent is the slope of a line through their logarithms, with its 95 % interval.
Results and figure are saved in `results/`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import click
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from save_result import RESULTS, save_result
from scipy import stats
from training import our_step, times_in_turn

from analysis.plots.style import COUNTS, TEXT, series_looks, style
from analysis.stats import CONFIDENCE
from condense_core import ModelConfig, cost_table
from condense_core.config import EXECUTIONS, growth_rates

BASE = ModelConfig((4, 4, 4), (8, 16, 32))


@dataclass(frozen=True)
class Point:
    """A network and a batch to time a step of, and its value on the quantity's axis."""

    quantity: str
    value: float
    model: ModelConfig
    batch: int
    last: bool  # measured in the last stage, in which groups and condense factor matter, not in stage 0

    @property
    def macs(self) -> int:
        """Live multiply-adds of a forward pass of one image."""
        return cost_table(self.model, None if self.last else 0).macs


def points() -> Iterator[Point]:
    """Yield all points to measure, quantity by quantity."""
    for rate in (4, 8, 12, 16, 20, 24):
        model = replace(BASE, growth=growth_rates("exponential", rate, 3))
        yield Point("MACs of one image", cost_table(model, 0).macs, model, 32, False)
    for batch in (8, 16, 32, 64, 128, 256):
        yield Point("images of a batch", batch, BASE, batch, False)
    for layers in (1, 2, 4, 8, 16, 32):
        model = replace(BASE, stages=(layers,) * 3, growth=(4, 8, 16))
        yield Point("layers", 3 * layers, model, 32, False)
    for groups in (1, 2, 4, 8, 16, 32):
        yield Point("G, groups", groups, replace(BASE, groups=groups), 64, True)
    for factor in (1, 2, 4, 8, 16, 32):
        yield Point("C, condense factor", factor, replace(BASE, condense_factor=factor), 64, True)


def measure(point: Point, warm_up: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield one row per execution with the median time of a step."""
    steps = {name: our_step(point.model, name, point.batch, point.last) for name in EXECUTIONS}
    for execution, seconds in times_in_turn(steps, warm_up, repeats).items():
        yield {
            "quantity": point.quantity,
            "value": point.value,
            "execution": execution,
            "seconds": round(statistics.median(seconds), 5),
            "macs": point.macs,
            "step_macs": 3 * point.macs * point.batch,  # the backward pass costs two forward ones
            "all_seconds": [round(value, 5) for value in seconds],
        }


def exponent(values: pd.Series, costs: pd.Series) -> tuple[float, float]:
    """Return the slope of log cost against log value, and the half-width of its interval."""
    fit = stats.linregress(np.log(values), np.log(costs))
    return fit.slope, float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 2)) * fit.stderr


def exponents(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per quantity and execution: how time and multiply-adds grow."""
    found = []
    for (quantity, execution), part in rows.groupby(["quantity", "execution"], sort=False):
        slope, arm = exponent(part.value, part.seconds)
        found.append(
            {
                "quantity": quantity,
                "execution": execution,
                "low": part.value.min(),
                "high": part.value.max(),
                "exponent": round(slope, 3),
                "arm": round(arm, 3),
                "macs_exponent": round(exponent(part.value, part.step_macs)[0], 3),
            }
        )
    return pd.DataFrame(found)


def draw(rows: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """Draw one panel per quantity: seconds of a step in both executions, with fitted lines and exponents."""
    quantities = list(dict.fromkeys(rows.quantity))
    with style():
        figure = Figure(figsize=(10.5, 6.2))
        panels = figure.subplots(2, 3, sharey=True).ravel()
        for axes, quantity in zip(panels, quantities, strict=False):
            _panel(axes, rows[rows.quantity == quantity], slopes[slopes.quantity == quantity])
            axes.set_xlabel(quantity)
        for axes in panels[::3]:
            axes.set_ylabel("Seconds of a training step")
        panels[-1].axis("off")
        panels[-1].legend(*panels[0].get_legend_handles_labels(), title="execution", loc="upper left")
        sns.despine(figure)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, slopes: pd.DataFrame) -> None:
    axes.set(xscale="log", yscale="log")
    for line, (execution, look) in enumerate(series_looks(list(EXECUTIONS)).items()):
        part, fit = rows[rows.execution == execution], slopes[slopes.execution == execution].iloc[0]
        axes.plot(part.value, part.seconds, ls="none", ms=6, label=execution, **look)
        middle = np.exp(np.log(part.seconds).mean() - fit.exponent * np.log(part.value).mean())
        axes.plot(part.value, middle * part.value**fit.exponent, color=look["color"], lw=1.2)
        _note(axes, line, f"{execution}: exponent {_decimals(fit.exponent)} ± {_decimals(fit.arm)}")
    _note(axes, len(slopes), f"MACs of a step: exponent {_decimals(slopes.macs_exponent.iloc[0])}")
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if rows.value.max() > 1e6 else (1, 3)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(COUNTS)
    axes.yaxis.set_major_formatter(COUNTS)


def _note(axes: Axes, line: int, text: str) -> None:
    axes.text(0.03, 1.2 - 0.075 * line, text, transform=axes.transAxes, color=TEXT, va="top", fontsize="small")


def _decimals(value: float) -> str:
    """Format a number with two decimals and a real minus sign; no −0.00."""
    return f"{round(value, 2) + 0:.2f}".replace("-", "−")


@click.command()
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--warm-up", type=click.IntRange(0), default=1, show_default=True)
def step_time(threads: int, repeats: int, warm_up: int) -> None:
    """Measure steps, print the exponents, save results and figure."""
    torch.set_num_threads(threads)
    rows = []
    for point in points():
        for row in measure(point, warm_up, repeats):
            rows.append(row)
            click.echo(
                f"{row['quantity']:<20}{row['value']:>12,}  {row['execution']:<10}{row['seconds']:9.4f} s"
            )
    frame = pd.DataFrame(rows)
    slopes = exponents(frame)
    click.echo("| quantity | from | to | execution | exponent of time | of MACs |\n|---|---|---|---|---|---|")
    for row in slopes.itertuples():
        ends = f"{row.low:,} | {row.high:,}"
        fitted = f"{_decimals(row.exponent)} ± {_decimals(row.arm)} | {_decimals(row.macs_exponent)}"
        click.echo(f"| {row.quantity} | {ends} | {row.execution} | {fitted} |")
    settings = {"threads": threads, "repeats": repeats, "warm_up": warm_up}
    save_result("step_time", settings=settings, exponents=slopes.to_dict("records"), rows=rows)
    figure = draw(frame, slopes)
    for suffix in ("png", "svg"):
        figure.savefig(
            RESULTS / f"step_time.{suffix}", dpi=150, metadata={"Date": None} if suffix == "svg" else {}
        )


if __name__ == "__main__":
    step_time()
