"""The HTML report of a study: `python -m analysis.report`, one file that fetches nothing."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .cli import bad_input, check_writable, main

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from condense_core.runs import Run, RunStore


@dataclass(frozen=True)
class Picture:
    """A figure as it stands in the report: the finding that it shows, and the picture as SVG."""

    title: str
    caption: str
    alt: str
    svg: bytes

    @property
    def url(self) -> str:
        """The picture as a data URL."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"

    @property
    def file_name(self) -> str:
        """Name of the picture's own file beside the page."""
        return f"{self.title.lower().replace(' ', '-')}.svg"


def picture(title: str, caption: str, alt: str, figure: Figure) -> Picture:
    """A figure as SVG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Picture(title, caption, alt, buffer.getvalue())


def write_report(store: RunStore, study: str, reports: Path) -> Path:
    """Write `reports/<study>/index.html`, its tables and its figures beside it; returns the page's path.

    Raises FileNotFoundError where the store has no such study.
    """
    from condense_core.files import write_atomically

    from . import frames, stats

    record = store.read_study(study)
    runs = frames.study_runs(store, study)
    summary, effects = stats.summary(runs), stats.effects(runs)
    folder = reports / study
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (("runs", runs), ("summary", summary), ("effects", effects)):
        frame.to_csv(folder / f"{name}.csv", index=False)
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    figures = pictures(store, runs, summary)
    for figure in figures:
        (folder / figure.file_name).write_bytes(figure.svg)
    page = render(store, record, runs, summary, effects, figures)
    write_atomically(folder / "index.html", lambda file: file.write(page.encode()))
    return folder / "index.html"


def render(
    store: RunStore,
    record: dict[str, Any],
    runs: pd.DataFrame,
    summary: pd.DataFrame,
    effects: pd.DataFrame,
    figures: list[Picture],
) -> str:
    """The report's page."""
    from jinja2 import Environment, PackageLoader

    from condense_core.runs import Run

    from .findings import findings
    from .plots import count
    from .tables import EFFECT_COLUMNS, SUMMARY_COLUMNS, effect_rows, number, run_rows, setting, summary_rows

    environment = Environment(
        loader=PackageLoader("analysis", "html"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"count": count, "number": number, "setting": setting}
    begun = [Run(store.root / name) for name in runs.run] if len(runs) else []
    shown = shown_run(runs)
    context = {
        "study": record,
        "findings": findings(effects, summary),
        "summary_columns": SUMMARY_COLUMNS,
        "summary": summary_rows(summary),
        "effect_columns": EFFECT_COLUMNS,
        "effects": effect_rows(effects),
        "pictures": figures,
        "shown": shown,
        "steps": pruning_steps(Run(store.root / shown)) if shown else [],
        "runs": run_rows(runs),
        "environment": begun[0].record["environment"] if begun else {},
        "fingerprint": begun[0].record["data_fingerprint"] if begun else "",
        "curves_on": next((run.epochs()[0]["curves_on"] for run in begun if run.epochs()), "validation"),
    }
    return environment.get_template("report.html").render(context)


def shown_run(runs: pd.DataFrame) -> str | None:
    """The learned run whose connections are shown: the base's first seed where that lost some."""
    done = runs[(runs.state == "done") & (runs.grouping == "learned")] if len(runs) else runs
    done = done[done.condense_factor > 1] if len(done) else done
    return (
        None
        if done.empty
        else str(done.sort_values("role", kind="stable", key=lambda r: r != "base").run.iloc[0])
    )


def pictures(store: RunStore, runs: pd.DataFrame, summary: pd.DataFrame) -> list[Picture]:
    """The figures that there is data for."""
    from condense_core.runs import Run

    from . import frames, plots
    from .study_config import MATCH_TOLERANCE

    if summary.empty or not summary.n.any() or not (summary.role == "base").any():
        return []
    found = [
        picture(
            "Error against cost",
            "Mean test error over the seeds with its 95 % interval, for every size of what differs from the "
            "base in one thing only. Dotted: the Pareto front. Equal costs are set a little apart.",
            _tradeoff_alt(summary),
            plots.tradeoff(summary),
        )
    ]
    grid = summary[summary.role.isin(["base", "grid"]) & (summary.n > 0)]
    if len(grid) > 1:
        matched = (grid.residual.abs() <= MATCH_TOLERANCE).all()
        found.append(
            picture(
                "The grid at equal cost" if matched else "The grid",
                "Mean test error of every variant with its 95 % interval over the seeds.",
                _grid_alt(summary),
                plots.equal_cost(summary),
            )
        )
    if shown := shown_run(runs):
        connections = frames.connections([Run(store.root / shown)])
        found.append(
            picture(
                "Which connections survive",
                f"Run {shown}: share of the connections between a source layer (row) and a target layer "
                "(column) that are alive when each stage has begun, and at the end. Grey: none exists.",
                _connections_alt(connections),
                plots.pruned_connections(connections),
            )
        )
    falling = _one_run_a_course(store, runs)
    if len(falling):
        found.append(
            picture(
                "MACs during training",
                "Learned grouping trains dense at first and loses connections at the entry of each stage; what "
                "is given from the start keeps what it has.",
                _macs_alt(falling),
                plots.macs_during_training(falling),
            )
        )
    return found


def _one_run_a_course(store: RunStore, runs: pd.DataFrame) -> pd.DataFrame:
    """Stage records of a run of every course of pruning at the base's growth, connectivity and size."""
    from condense_core.runs import Run

    from . import frames

    base = runs[runs.role == "base"]
    if base.empty:
        return runs.head(0)
    like = (runs.growth == base.growth.iloc[0]) & (runs.connectivity == base.connectivity.iloc[0])
    chosen = runs[like & (runs["size"] == base["size"].iloc[0]) & (runs.state == "done")]
    course = chosen.assign(grouping=chosen.grouping.replace("unstructured", "learned"))  # they fall alike
    chosen = chosen[~course.duplicated(["grouping", "groups", "condense_factor", "pruning"])]
    stages = frames.stages([Run(store.root / name) for name in chosen.run])
    return stages.merge(chosen[["run", "variant", "grouping"]], on="run") if len(stages) else stages


def pruning_steps(run: Run) -> list[dict[str, Any]]:
    """Error before and after each pruning step, and the best that it came back to before the next one."""
    from . import frames

    stages, epochs = frames.stages([run]), frames.epochs([run])
    steps = stages[~stages.stage.isin(["0", "end"])]
    ends = [*steps.epoch.tolist(), float("inf")][1:]
    rows = []
    for (_, step), end in zip(steps.iterrows(), ends, strict=True):
        later = epochs[(epochs.epoch > step.epoch) & (epochs.epoch <= end)].curve_error_percent
        rows.append(
            {
                "stage": step.stage,
                "epoch": step.epoch,
                "macs": step.macs,
                "before": step.error_percent_before,
                "after": step.error_percent_after,
                "recovered": later.min() if len(later) else None,
            }
        )
    return rows


def _tradeoff_alt(summary: pd.DataFrame) -> str:
    best = summary.loc[summary.error_mean.idxmin()]
    return (
        f"Test error against MACs. The lowest mean error, {best.error_mean:.2f} %, is that of {best.variant}."
    )


def _grid_alt(summary: pd.DataFrame) -> str:
    grid = summary[summary.role.isin(["base", "grid"])].sort_values("error_mean")
    first, last = grid.iloc[0], grid.dropna(subset="error_mean").iloc[-1]
    return (
        f"Test errors of the grid, from {first.variant} ({first.error_mean:.2f} %) "
        f"to {last.variant} ({last.error_mean:.2f} %)."
    )


def _connections_alt(connections: pd.DataFrame) -> str:
    end = connections[connections.stage == "end"]
    share = (end.alive * end.channels).groupby(end.source).sum() / end.channels.groupby(end.source).sum()
    return (
        f"Share of connections alive by source and target layer at every stage. At the end the layers read "
        f"most of {share.idxmax()} ({share.max():.0%} alive) and least of {share.idxmin()} ({share.min():.0%})."
    )


def _macs_alt(stages: pd.DataFrame) -> str:
    from .plots import count

    parts = [
        f"{variant} from {count(part.macs.iloc[0])} to {count(part.macs.iloc[-1])}"
        for variant, part in stages.groupby("variant", sort=False)
    ]
    return "MACs of the network during training: " + "; ".join(parts) + "."


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("study")
@click.option("--runs", type=click.Path(path_type=Path), default="runs", show_default=True, help="run store")
@click.option(
    "--reports", type=click.Path(path_type=Path), default="reports", show_default=True, help="where reports go"
)
def report(study: str, runs: Path, reports: Path) -> None:
    """Write the HTML report of STUDY, a study in the run store, and its tables as CSV and Parquet."""
    from condense_core.runs import RunStore

    with bad_input():
        store = RunStore(runs)
        store.read_study(study)
        check_writable(reports)
    click.echo(write_report(store, study, reports))


if __name__ == "__main__":
    main(report)
