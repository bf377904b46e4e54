"""The contents of a study's report: the question, the findings, every figure and every run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from analysis import frames
from analysis.findings import Answer, StudyFindings, audit, settling_sentence, verdict_counts
from analysis.studies import StudyConfig, command
from condense_core.config import ModelConfig, RecipeConfig, RunConfig
from condense_core.store import Run, TrackedConfig
from condense_core.validation import from_dict, to_dict

from .connection_maps import connection_maps, rank_lines
from .figures import report_figures
from .not_there import not_there
from .report_figure import ReportFigure, learned_runs, shown_run
from .tables import (
    Table,
    audit_table,
    effect_table,
    frame_table,
    number,
    run_table,
    setting,
    summary_table,
    tuning_table,
)

TOP = ("masks", "tradeoff", "effects", "grid", "connections-alive", "life", "macs", "cost")  # answer first
MAX_POINTS = 150  # of a small curve
MAX_VIEWS = 88  # of runs with curves: a page with a thousand has 5 MB and is slow to open


@dataclass(frozen=True)
class StudyReport(StudyFindings):
    """The report of one study of a store."""

    @cached_property
    def audit(self) -> list[Answer]:
        """How far the evidence goes."""
        return audit(self)

    @property
    def settling(self) -> str:
        """How many more seeds would settle what is open."""
        return "" if self.is_tracked else settling_sentence(self.compared)

    @property
    def verdicts(self) -> str:
        """How many requirements of the audit are held."""
        return verdict_counts(self.audit)

    @property
    def plain(self) -> dict[str, Any]:
        """What is found and how far the evidence goes, as JSON takes it."""
        answers = [asdict(answer) for answer in self.audit]
        return {"study": self.name, "findings": self.findings, "settling": self.settling, "audit": answers}

    @cached_property
    def not_there(self) -> list[str]:
        """What a tracked study lacks, in sentences."""
        return not_there(self)

    @property
    def audit_table(self) -> Table:
        """Each question of the audit, one per row."""
        return audit_table(self.audit)

    @property
    def tuning_table(self) -> Table | None:
        """Every value that was tried, if any was."""
        return tuning_table(self.trials) if self.trials else None

    @cached_property
    def figures(self) -> list[ReportFigure]:
        """Every figure that there is data for."""
        return report_figures(self.store, self.runs, self.summary, self.compared)

    @property
    def top(self) -> list[ReportFigure]:
        """The three figures that show the answer."""
        by_key = {figure.key: figure for figure in self.figures}
        return [by_key[key] for key in TOP if key in by_key][:3]

    @property
    def chapters(self) -> dict[str, list[ReportFigure]]:
        """The other figures by their chapter, in the order in which these first appear."""
        found: dict[str, list[ReportFigure]] = {}
        for figure in self.figures:
            if figure not in self.top:
                found.setdefault(figure.chapter, []).append(figure)
        return found

    @cached_property
    def maps(self) -> dict[str, Any]:
        """Packed connections of the learned runs, the run of the figures first; empty if there are none."""
        if (shown := shown_run(self.runs)) is None:
            return {}
        names = sorted(learned_runs(self.runs).run, key=lambda name: name != shown)
        return connection_maps(Run(self.store.root / name) for name in names)

    @cached_property
    def ranks(self) -> dict[str, Any]:
        """Packed ranks over time of the run of the figures; empty if no run learned its groups."""
        shown = shown_run(self.runs)
        return {} if shown is None else rank_lines(Run(self.store.root / shown))

    @property
    def tables(self) -> list[Table]:
        """The variants, and the effects if there are any."""
        tables = [summary_table("Variants", self.summary)]
        return tables + ([effect_table("Main effects", self.effects)] if len(self.effects) else [])

    @property
    def command(self) -> str:
        """The command that trains the study; empty if its settings are of another version."""
        try:
            return command(from_dict(StudyConfig, self.record["settings"]))
        except (ValueError, TypeError, KeyError):
            return ""

    @property
    def settings(self) -> dict[str, str]:
        """Every setting of the study as text."""
        return {name: setting(value) for name, value in self.record["settings"].items()}

    @cached_property
    def environments(self) -> list[dict[str, str]]:
        """The different versions, commits and data fingerprints that the runs were trained with."""
        found: list[dict[str, str]] = []
        for record in self.records:
            row = {name: setting(value) for name, value in record["environment"].items()}
            row["data fingerprint"] = record["data_fingerprint"]
            if row not in found:
                found.append(row)
        return found

    @cached_property
    def finished(self) -> str:
        """The time at which the last run ended, from the store."""
        times = [run.status["time"] for run in self.started if "time" in run.status]
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(max(times))) if times else "–"

    @cached_property
    def viewed(self) -> set[str]:
        """The names of the runs with a view: all, or if they are too many, unfinished runs and first seeds."""
        if len(self.runs) <= MAX_VIEWS:
            return set(self.runs.run) if len(self.runs) else set()
        place = self.runs.seed.where(self.runs.state == "done", -1)
        return set(self.runs.run[place.sort_values(kind="stable").index[:MAX_VIEWS]])

    @property
    def run_views(self) -> Iterator[RunView]:
        """A view of each run in `viewed`, with its settings, curves and stages."""
        flat = [_flat(record) for record in self.records]
        varied = [
            name
            for name in dict.fromkeys(name for row in flat for name in row)
            if len({str(row.get(name)) for row in flat}) > 1
        ]
        for run, row in zip(self.started, flat, strict=True):
            if run.name in self.viewed:
                yield RunView(run, {name: setting(row.get(name)) for name in varied})

    @property
    def run_table(self) -> Table:
        """All runs, one per row."""
        return run_table("Runs", self.runs)


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Flatten the model and recipe in a `Run.record` into one dictionary."""
    if record.get("kind") == "tracked":
        return _of_tracked(from_dict(TrackedConfig, record["config"]))
    config = from_dict(RunConfig, record["config"])
    names = [item.name for item in (*fields(ModelConfig), *fields(RecipeConfig))]
    values = to_dict(config.model) | to_dict(config.recipe) | {"seed": config.seed}
    return {name: values[name] for name in (*names, "seed")}


def _of_tracked(config: TrackedConfig) -> dict[str, Any]:
    values = to_dict(config)
    sizes = {name: config.common(name) for name in ("groups", "condense_factor")}
    own = {f"settings.{name}": value for name, value in values.pop("settings").items()}
    return {name: value for name, value in values.items() if name != "layers"} | sizes | own


@dataclass(frozen=True)
class RunView:
    """One run in a report; `settings` are the ones that differ between the runs of the study."""

    run: Run
    settings: dict[str, str]

    @property
    def state(self) -> str:
        """The state of the run."""
        return str(self.run.status["state"])

    @property
    def reason(self) -> str:
        """The reason why it diverged or failed."""
        return self.run.status.get("reason") or ""

    @property
    def error(self) -> str:
        """The test error in percent."""
        return number(self.run.result.get("test_error_percent"))

    @cached_property
    def stages(self) -> Table:
        """The stage records."""
        return frame_table(f"Stages of {self.run.name}", frames.stages(self.run).drop(columns="run"))

    @cached_property
    def charts(self) -> list[Chart]:
        """Small curves of the epochs."""
        epochs, stages = self.run.epochs(), self.run.stages()
        marks = [record["epoch"] for record in stages if record["stage"]]
        if not epochs:
            return []
        return [
            Chart("loss", _lines(epochs, "curve_loss", "train_loss"), marks),
            Chart("error %", _lines(epochs, "curve_error_percent", "train_error_percent"), marks),
            Chart("learning rate", _lines(epochs, "learning_rate"), marks),
            Chart("MACs", [_falling(stages, epochs[-1]["epoch"])], marks),
        ]


Line = list[tuple[float, float]]


def _lines(epochs: list[dict[str, Any]], *columns: str) -> list[Line]:
    every = -(-len(epochs) // MAX_POINTS)
    thinned = [*epochs[:-1:every], epochs[-1]]
    return [[(row["epoch"], row[column]) for row in thinned if row[column] is not None] for column in columns]


def _falling(stages: list[dict[str, Any]], last_epoch: float) -> Line:
    """Return the corners of a staircase: MACs fall when a stage starts, and stay until the next one."""
    corners: Line = []
    for record in stages:
        if corners:
            corners.append((record["epoch"], corners[-1][1]))
        corners.append((record["epoch"], record["macs"]))
    return [*corners, (last_epoch, corners[-1][1])] if corners else []


@dataclass(frozen=True)
class Chart:
    """A small curve over epochs: the first line solid, a second one dashed; `marks` are starts of stages."""

    title: str
    lines: list[Line]
    marks: list[float]
    width: int = 440
    height: int = 180

    @property
    def top(self) -> float:
        """The largest value, at the upper edge; the lower edge is 0."""
        return max((y for line in self.lines for _, y in line), default=0.0) or 1.0

    @property
    def last(self) -> float:
        """The last epoch, at the right edge."""
        return max((x for line in self.lines for x, _ in line), default=0.0) or 1.0

    def x(self, epoch: float) -> str:
        """Return the position of an epoch, in pixels from the left."""
        return f"{self.width * epoch / self.last:.0f}"

    def points(self, line: Line) -> str:
        """Return the points of a line in SVG."""
        return " ".join(f"{self.x(x)},{self.height * (1 - y / self.top):.0f}" for x, y in line)
