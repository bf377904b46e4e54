"""`python -m analysis.ablate`: train a study or resume it, then print its table and write the report."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import condense_core.store
from condense_core.files import plain_name
from condense_core.store import FINISHED

from . import engines, reporting, studies
from .cli import (
    bad_input,
    check_writable,
    command,
    data_dir_option,
    exit_status,
    json_option,
    main,
    meaningful_option,
    reports_option,
    runs_option,
)
from .margin import check_meaningful
from .text import duration, print_table, say

if TYPE_CHECKING:
    import pandas as pd


@command
@click.argument("toml", required=False, type=click.Path(path_type=Path))
@studies.settings_options
@click.option(
    "--list-studies", is_flag=True, help="list the studies: their question, and where the paper asks it"
)
@click.option("--device", default="auto", metavar="X", help="auto, cpu or cuda  (default: auto)")
@click.option(
    "--jobs", type=click.IntRange(1), help="runs at once; changes no result  (default: cores / threads)"
)
@click.option(
    "--engine", default="processes", metavar="X", help="processes, or ray for a cluster  (default: processes)"
)
@click.option(
    "--address",
    metavar="X",
    help="Ray cluster: HOST:PORT, or auto for the one of this machine  (default: start one here)",
)
@click.option(
    "--gpus-per-run", type=float, metavar="X", help="with ray: fraction of a GPU per run  (default: 1)"
)
@click.option(
    "--rank-timeout",
    type=click.FloatRange(1),
    default=120,
    metavar="SECONDS",
    help="under torchrun: how long a rank may be silent  (default: 120)",
)
@runs_option
@reports_option
@data_dir_option
@meaningful_option
@click.option(
    "--sort",
    type=click.Choice(["study", "error", "macs", "params"]),
    default="study",
    help="order of the table",
)
@click.option(
    "--force",
    is_flag=True,
    help="restart runs that cannot be resumed because code, torch or data changed; old runs are kept",
)
@click.option("--dry-run", is_flag=True, help="list every run with its cost, time and state; write nothing")
@json_option
def ablate(
    toml: Path | None,
    list_studies: bool,
    device: str,
    jobs: int | None,
    engine: str,
    address: str | None,
    gpus_per_run: float | None,
    rank_timeout: float,
    runs: Path,
    reports: Path,
    data_dir: Path,
    meaningful: float,
    sort: str,
    force: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Train the variants of a study × seeds, print the table, write the report.

    Without options: the ablation of grouping × growth × connectivity on digits, which needs no download.
    TOML is a file with the same settings as the options; an option overrides the file. Run again, it skips
    what is done and resumes what is not.
    """
    if list_studies:
        return _print_studies(as_json)
    with ExitStack() as resources:
        with bad_input():
            check_meaningful(meaningful)
            settings = studies.read_toml(toml) if toml else {}
            in_file = [name for name in settings if options.get(name) is None]
            with studies.naming_file(toml, in_file):
                study_config = _study_config(settings, options, jobs, engine)
            check_writable(runs, reports)
            store = condense_core.store.RunStore(runs)
            chosen = engines.connect(engine, address, gpus_per_run, rank_timeout=rank_timeout)
            connected = resources.enter_context(chosen)
            with studies.naming_file(toml, in_file):
                study = studies.Study.of(study_config, device, connected.has_gpu)
                study = study.budgeted(store, data_dir, keep=not dry_run)
            if dry_run:
                study = study.settled(store)
            launch = engines.Launch(connected, study.next_runs(), store, data_dir, force)
            if dry_run:
                rows = _plan(study, launch)
            else:
                training = resources.enter_context(launch.prepared(study.enter))
        name = study.config.name
        if dry_run:
            return _print_plan(name, rows, connected.slots(launch.configs[0], jobs), as_json)
        outcomes = training.on_terminal(name if study.is_tuned else f"{name}, tuning", jobs)
        if not study.is_tuned and engines.all_finished(outcomes):
            with bad_input():
                training = study.after_tuning(training)
            outcomes = outcomes + training.on_terminal(name, jobs)
    if not engines.is_first_rank():
        return 0  # whatever the outcome, so that torchrun lets rank 0 report it
    if any(outcome.state in ("stopped", "held") for outcome in outcomes):
        return exit_status(outcomes, name, store)  # there is no report of unfinished runs
    report = reporting.StudyReport(store, name, meaningful)
    return _conclude(report, reports, outcomes, sort, as_json)


def _print_studies(as_json: bool) -> int:
    named = studies.NAMED_STUDIES
    if as_json:
        fields = {name: {"question": study.question, "paper": study.paper} for name, study in named.items()}
        click.echo(json.dumps(fields, indent=1))
        return 0
    rows = [(name, study.question, study.paper) for name, study in named.items()]
    print_table("Studies", ("study", "asks", "in the paper"), rows)
    return 0


def _study_config(
    settings: dict[str, Any], options: dict[str, Any], jobs: int | None, engine: str
) -> studies.StudyConfig:
    """Return the study that a file's settings and the options over them ask for. Raises ValueError."""
    settings = settings | {name: value for name, value in options.items() if value is not None}
    config = studies.study_config(**engines.settings_for_ranks(settings, jobs, engine))
    plain_name(config.name, "name")
    return config


def _plan(study: studies.Study, launch: engines.Launch) -> list[dict[str, Any]]:
    """Return every run with its cost and state."""
    launch.check()
    launch.split(thoroughly=False)
    launch.refuse_changed()
    return studies.plan(study, launch.store)


def _print_plan(name: str, rows: list[dict[str, Any]], slots: int, as_json: bool) -> int:
    """Print every run with its cost and state, and the time that is left."""
    if not engines.is_first_rank():
        return 0
    if as_json:
        click.echo(json.dumps({"study": name, "runs": rows}, indent=1))
        return 0
    print_table(f"{name}: {len(rows)} runs", studies.PLAN_COLUMNS, studies.plan_rows(rows))
    if guessed := sum(row["is_extrapolated"] for row in rows):
        say(
            f"The seconds of {guessed} runs are extrapolated by MACs from a smaller network, because a step of "
            "theirs takes too long to be timed."
        )
    left = [row for row in rows if row["state"] not in FINISHED]
    if not left:
        say(f"All {len(rows)} runs are finished: nothing is left to train. Nothing was written.")
        return 0
    seconds = sum(row["remaining_seconds"] for row in rows)
    at_once = min(slots, len(left))
    about = f"about {duration(seconds / at_once)} with {at_once} at once"
    tuning = sum(row["role"] == "tuning" for row in left)
    first = f" ({tuning} of them to tune the settings)" if tuning else ""
    say(f"{len(left)} of {len(rows)} runs are left to train{first}, {about}. Nothing was written.")
    return 0


def _conclude(
    report: reporting.StudyReport,
    reports: Path,
    outcomes: list[engines.Outcome],
    sort: str,
    as_json: bool,
) -> int:
    """Write the report, print the results, and return the exit status."""
    name, store = report.name, report.store
    page = reporting.write_report(report, reports)
    summary = report.summary
    if sort != "study" and len(summary):
        summary = summary.sort_values({"error": "error_mean"}.get(sort, sort), kind="stable")
    if as_json:
        states = Counter(outcome.state for outcome in outcomes)
        about = report.plain | {"states": states, "report": str(page)}
        tables = {"summary": summary, "effects": report.effects, "runs": report.runs}
        plain = {key: json.loads(frame.to_json(orient="records")) for key, frame in tables.items()}
        click.echo(json.dumps(about | {"tuning": report.trials} | plain, indent=1))
    else:
        _print_results(name, summary, report, page)
    return exit_status(outcomes, name, store)


def _print_results(name: str, summary: pd.DataFrame, report: reporting.StudyReport, page: Path) -> None:
    if tuning := report.tuning_table:
        print_table(tuning.name, tuning.columns, [[cell.text for cell in row] for row in tuning.rows])
        say(report.tuning[0])
    print_table(name, reporting.SUMMARY_COLUMNS, reporting.summary_rows(summary))
    if len(report.effects):
        title = "Main effects (difference in points of test error)"
        print_table(title, reporting.EFFECT_COLUMNS, reporting.effect_rows(report.effects))
    for sentence in report.findings:
        say(f"- {sentence}")
    for sentence in filter(None, (report.settling, report.verdicts)):
        say(sentence)
    say(f"Report: {page} (next to it: its tables as .csv and .parquet, its figures as .svg)")


if __name__ == "__main__":
    main(ablate)
