"""The figures of a study with what each needs in a report: a finding in words, its data, its SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from analysis import frames, plots, stats
from analysis.axes import MATCH_TOLERANCE
from analysis.plots.connections import shares_by_distance
from analysis.plots.cost import cost_parts
from condense_core.config import LEARNED
from condense_core.store import Run, RunStore

from . import alt_texts

PUBLISHED_DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet"}
STYLES = (
    "<style>text{font-family:'DejaVu Sans',Verdana,sans-serif}</style>"
    '<style id="dark">@media (prefers-color-scheme: dark){'
    '[style*="fill: #262626"]{fill:#e6e6e6!important}[style*="stroke: #262626"]{stroke:#e6e6e6!important}'
    '[style*="fill: #4c4c4c"]{fill:#bdbdbd!important}[style*="stroke: #4c4c4c"]{stroke:#bdbdbd!important}'
    "}</style>"
)


@dataclass(frozen=True)
class ReportFigure:
    """A figure in a report: `alt` states its finding, `data` is what it is drawn from."""

    key: str
    title: str
    caption: str
    alt: str
    figure: Figure
    data: pd.DataFrame

    @cached_property
    def svg(self) -> str:
        """The figure as SVG, the same bytes for the same figure; its text turns light on a dark page."""
        buffer = io.StringIO()
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "condense"}):
            self.figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
        svg = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
        svg = re.sub(r"<!DOCTYPE.*?>", "", svg, flags=re.DOTALL)
        svg = re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", " ", svg))
        svg = re.sub(r' id="[a-zA-Z.]+[_\d.]+"', "", svg)  # names of parts, which nothing refers to
        svg = svg.replace("font: ", "font-size: ").replace(" 'DejaVu Sans'", "")
        return svg.strip().replace("<defs>", f"{STYLES}<defs>", 1)


def shown_run(runs: pd.DataFrame) -> str | None:
    """The learned run whose connections are shown: the base's first seed where that lost some."""
    done = learned_runs(runs)
    if done.empty:
        return None
    return str(done.sort_values("role", kind="stable", key=lambda role: role != "base").run.iloc[0])


def learned_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that are done and learned which connections to keep."""
    if runs.empty:
        return runs
    return runs[(runs.state == "done") & (runs.grouping == "learned") & (runs.condense_factor > 1)]


@dataclass(frozen=True)
class Drawn:
    """What the figures of a study are drawn from."""

    store: RunStore
    runs: pd.DataFrame
    summary: pd.DataFrame

    def some(self, names: Any) -> list[Run]:
        """Runs of the store by name."""
        return [Run(self.store.root / name) for name in names]

    @property
    def grid(self) -> pd.DataFrame:
        """The summary of the base and the grid, as far as runs are done."""
        return self.summary[self.summary.role.isin(["base", "grid"]) & (self.summary.n > 0)]


def report_figures(store: RunStore, runs: pd.DataFrame, summary: pd.DataFrame) -> list[ReportFigure]:
    """Every figure that there is data for, the ones that answer the question first."""
    if summary.empty or not summary.n.any():
        return []
    drawn = Drawn(store, runs, summary)
    return [
        *_effects(drawn),
        *_tradeoffs(drawn),
        *_connections(drawn),
        *_grid(drawn),
        *_lives(drawn),
        *_costs(drawn),
        *_times(store),
    ]


SUMMARY_DATA = [
    "variant", "curve", "macs", "flops_paper", "params", "error_mean", "error_sd", "n",
]  # fmt: skip


def _tradeoffs(drawn: Drawn) -> Iterator[ReportFigure]:
    summary = drawn.summary
    kind = str(drawn.runs.data.iloc[0]).partition(":")[0]
    theirs = PUBLISHED_DATA.get(kind)
    points = frames.published(theirs or "CIFAR-10")
    text = (
        "Mean test error over the seeds with its 95 % interval. Filled, with a line over the sizes: what "
        "differs "
        "from the base in the study's first factor alone; open: the rest of the grid, set a little apart. "
        "Dotted: "
        "the Pareto front. "
    )
    where = "On the same axes" if theirs else "Beside it, of other data and for orientation only"
    yield ReportFigure(
        "tradeoff",
        "Error against cost",
        f"{text}{where}: what papers print for {theirs or 'CIFAR-10'}.",
        alt_texts.tradeoff(summary),
        plots.tradeoff(summary, "flops_paper" if theirs else "macs", points, beside=not theirs),
        summary[SUMMARY_DATA],
    )
    yield ReportFigure(
        "tradeoff-params",
        "Error against parameters",
        text.strip(),
        alt_texts.tradeoff(summary, "params"),
        plots.tradeoff(summary, "params"),
        summary[SUMMARY_DATA],
    )


def _effects(drawn: Drawn) -> Iterator[ReportFigure]:
    effects, interactions = stats.effects(drawn.runs), stats.interactions(drawn.runs)
    if effects.empty:
        return
    yield ReportFigure(
        "effects",
        "Effects",
        "Difference in test error between two levels, paired over the other factors and the seeds, with its "
        "interval, corrected after Holm. Filled: the interval excludes 0. Ticks: each seed's own mean.",
        alt_texts.effects(effects, interactions),
        plots.effects(effects, interactions, stats.effects_by_seed(drawn.runs)),
        pd.concat([effects, interactions], ignore_index=True),
    )
    if len(interactions):
        columns = [
            "variant",
            "grouping",
            "growth",
            "connectivity",
            "groups",
            "condense_factor",
            "error_mean",
            "n",
        ]
        yield ReportFigure(
            "interactions",
            "Two factors at a time",
            "Mean test error of the cells of the grid. Parallel lines: the factors do not interact.",
            alt_texts.interactions(interactions),
            plots.interactions(drawn.summary),
            drawn.grid[[name for name in columns if name in drawn.grid]],
        )


def _grid(drawn: Drawn) -> Iterator[ReportFigure]:
    if len(drawn.grid) < 2:
        return
    matched = (drawn.grid.residual.abs() <= MATCH_TOLERANCE).all()
    yield ReportFigure(
        "grid",
        "The grid at equal cost" if matched else "The grid",
        "Mean test error of every variant with its 95 % interval over the seeds.",
        alt_texts.grid(drawn.summary),
        plots.equal_cost(drawn.summary),
        drawn.grid[[*SUMMARY_DATA, "residual"]],
    )


def _connections(drawn: Drawn) -> Iterator[ReportFigure]:
    shown = shown_run(drawn.runs)
    if shown is None:
        return
    connections = frames.connections(drawn.some([shown]))
    text = f"Run {shown}: source layers down, target layers across, when each stage has begun and at the end. "
    for value, title in (("alive", "Which connections survive"), ("mean_weight", "How strong they are")):
        meaning = {
            "alive": "Colour: share of the connections between two layers that are alive.",
            "mean_weight": "Colour: mean absolute weight between two layers, a pruned one counted as 0.",
        }[value]
        yield ReportFigure(
            f"connections-{value.replace('_', '-')}",
            title,
            f"{text}{meaning} Grey: none exists.",
            alt_texts.connections(connections, value),
            plots.pruned_connections(connections, value),
            wide_connections(connections, value),
        )
    channels = frames.channels(drawn.some([shown]), connections.target.iloc[-1])
    yield ReportFigure(
        "layer",
        "One layer in full",
        f"Run {shown}, the last 1×1 convolution, group by group and input by input. Above: what is alive, in "
        "the "
        "colour of the layer that it comes from; below: the stage at whose entry each connection was pruned.",
        alt_texts.layer(channels),
        plots.layer_connections(channels),
        layer_counts(channels),
    )
    yield from _sources(drawn)


def wide_connections(connections: pd.DataFrame, value: str) -> pd.DataFrame:
    """A row a target and source, a column a stage."""
    keys = ["target", "source", "channels"]
    table = connections.pivot_table(
        index=["target_position", "source_position", *keys], columns="stage", values=value, sort=True
    )
    stages = list(dict.fromkeys(connections.stage))
    table = table[stages].rename(columns=lambda stage: "at the end" if stage == "end" else f"stage {stage}")
    return table.reset_index().drop(columns=["target_position", "source_position"])


def layer_counts(channels: pd.DataFrame) -> pd.DataFrame:
    """Alive connections of a layer by group and source."""
    alive = channels.assign(alive=(channels.died == -1).astype(int))
    table = alive.pivot_table(index="group", columns="source", values="alive", aggfunc="sum", sort=False)
    return table.reset_index()


def _sources(drawn: Drawn) -> Iterator[ReportFigure]:
    """By distance, of the learned runs of the grid: growth and connectivity as far as they vary."""
    chosen = learned_runs(drawn.runs)
    chosen = chosen[chosen.role.isin(["base", "grid"])]
    if chosen.empty:
        return
    factors = tuple(name for name in ("growth", "connectivity") if chosen[name].nunique() > 1) or ("growth",)
    end = frames.connections(drawn.some(chosen.run), "end")
    end = end.merge(chosen[["run", "growth", "connectivity"]], on="run")
    rows = [
        shares_by_distance(part).assign(growth=growth, connectivity=connectivity)
        for (growth, connectivity), part in end.groupby(["growth", "connectivity"], sort=False)
    ]
    yield ReportFigure(
        "sources",
        "Which sources are read",
        "Share of connections alive at the end by the distance from source to target: mean over the runs with "
        "its 95 % interval; 1 is the layer just before. What a panel does not compare is as in the base.",
        alt_texts.sources(end),
        plots.sources_read(end, factors),
        pd.concat(rows, ignore_index=True)[
            ["growth", "connectivity", "distance", "share", "low", "high", "runs"]
        ],
    )


def _lives(drawn: Drawn) -> Iterator[ReportFigure]:
    base = drawn.runs[(drawn.runs.role == "base") & (drawn.runs.state == "done")]
    chosen = base if len(base) else drawn.runs[drawn.runs.state == "done"]
    first = drawn.some(chosen.run.head(1))
    epochs, stages = frames.epochs(first), frames.stages(first)
    yield ReportFigure(
        "life",
        "A run's life",
        f"Run {first[0].name}; dotted lines: a stage begins and connections are pruned.",
        alt_texts.life(epochs, stages),
        plots.run_life(epochs, stages),
        epochs.drop(columns=["run", "step"]),
    )
    steps = frames.steps(drawn.some(chosen.run))
    if len(steps):
        yield ReportFigure(
            "steps",
            "What each pruning step did",
            f"Error on the {epochs.curves_on.iloc[0]} images right before a step, right after it, and the "
            "lowest "
            "of an epoch before the next one; thin lines: single runs.",
            alt_texts.steps(steps),
            plots.pruning_steps(steps),
            steps,
        )
    falling = _one_run_a_course(drawn)
    if len(falling):
        yield ReportFigure(
            "macs",
            "MACs during training",
            "Learned grouping trains dense at first and loses connections at the entry of each stage; what is "
            "given "
            "from the start keeps what it has.",
            alt_texts.macs(falling),
            plots.macs_during_training(falling),
            falling[["variant", "stage", "epoch", "macs", "flops_paper", "params"]],
        )


def _one_run_a_course(drawn: Drawn) -> pd.DataFrame:
    """Stage records of a run of every course of pruning at the base's growth, connectivity and size."""
    runs = drawn.runs
    base = runs[runs.role == "base"]
    if base.empty:
        return runs.head(0)
    like = (runs.growth == base.growth.iloc[0]) & (runs.connectivity == base.connectivity.iloc[0])
    chosen = runs[like & (runs["size"] == base["size"].iloc[0]) & (runs.state == "done")]
    course = chosen.assign(grouping=chosen.grouping.replace("unstructured", "learned"))  # they fall alike
    chosen = chosen[~course.duplicated(["grouping", "groups", "condense_factor", "pruning"])]
    return frames.stages(drawn.some(chosen.run)).merge(chosen[["run", "variant", "grouping"]], on="run")


def _costs(drawn: Drawn) -> Iterator[ReportFigure]:
    done = drawn.runs[drawn.runs.state == "done"]
    ranked = done.assign(
        order=[(row.role != "base", row.grouping not in LEARNED) for row in done.itertuples()]
    ).sort_values("order", kind="stable")
    layers = frames.layers(drawn.some(ranked.run.head(1)))
    parts = cost_parts(layers)
    yield ReportFigure(
        "cost",
        "Where the cost is",
        f"MACs of run {ranked.run.iloc[0]}, layer by layer and block by block. Hatched: what the pruning "
        "steps took.",
        alt_texts.cost(parts),
        plots.cost_by_layer(layers),
        parts.groupby(["place", "block", "part"], sort=False, as_index=False).macs.sum(),
    )


def _times(store: RunStore) -> Iterator[ReportFigure]:
    """What `analysis.bench` measured last, and on the same machine with the same batch before."""
    times, parts = frames.times(store), frames.parts(store)
    if times.empty:
        return
    newest = times[times.date == times.date.max()].sort_values("batch").iloc[0]
    alike = (times[["processor", "threads", "batch"]] == newest[["processor", "threads", "batch"]]).all(axis=1)
    shown = times[alike].drop_duplicates(["model", "execution"], keep="last")
    where = f"{newest.processor}, {newest.threads} threads, batches of {newest.batch}"
    yield ReportFigure(
        "time",
        "What MACs do not tell",
        f"Measured median time of an image with its 95 % interval against the MACs that pruning left, {where}. "
        "Dense executions multiply by zeros where connections are pruned.",
        alt_texts.times(shown),
        plots.time_against_macs(shown),
        shown,
    )
    if len(parts):
        last = parts[parts.date == parts.date.max()]
        last = last[(last.model == last.model.iloc[0]) & (last.batch == last.batch.iloc[0])]
        yield ReportFigure(
            "waterfall",
            "From MACs to milliseconds",
            f"{last.model.iloc[0]}, layer by layer, summed by part: dense in torch, the same if its 1×1 "
            "convolutions took time as their MACs say, condensed in torch, and condensed by our kernels.",
            alt_texts.waterfall(last),
            plots.waterfall(last),
            last.groupby(["execution", "part"], sort=False, as_index=False).milliseconds.sum(),
        )
