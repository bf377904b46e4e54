"""`python -m analysis.ablate`: train a study or go on with it, then the table and the report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from condense_core.files import plain_name

from .cli import bad_input, check_writable, is_first_rank, launched_ranks, main, one_line, signals_to
from .studies import read_toml, settings_options, study_config
from .text import say

if TYPE_CHECKING:
    from condense_core.config import RunConfig
    from condense_core.store import RunStore

    from .engines import Cluster, Outcome, StopSwitch
    from .studies import Study


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("toml", required=False, type=click.Path(path_type=Path))
@settings_options
@click.option("--list-studies", is_flag=True, help="what each study asks, and where the paper does")
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
    help="Ray cluster: HOST:PORT, or auto for the one this machine is in  (default: start one here)",
)
@click.option(
    "--gpus-per-run", type=float, metavar="X", help="with ray: share of a GPU that a run gets  (default: 1)"
)
@click.option(
    "--rank-timeout",
    type=click.FloatRange(1),
    default=120,
    metavar="SECONDS",
    help="under torchrun: how long a rank may be silent  (default: 120)",
)
@click.option("--runs", type=click.Path(path_type=Path), default="runs", help="run store  (default: runs)")
@click.option("--reports", type=click.Path(path_type=Path), default="reports", help="(default: reports)")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), default="data", help="downloads and caches  (default: data)"
)
@click.option(
    "--sort",
    type=click.Choice(["study", "error", "macs", "params"]),
    default="study",
    help="order of the table",
)
@click.option(
    "--force",
    is_flag=True,
    help="begin runs anew that cannot go on, for code, torch or data changed; keep what there is",
)
@click.option("--dry-run", is_flag=True, help="list every run with its cost, time and state; write nothing")
@click.option("--json", "as_json", is_flag=True, help="machine-readable result on stdout")
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
    sort: str,
    force: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Train the variants of a study × seeds, print the table, write the report.

    Without options: the ablation of grouping × growth × connectivity on digits, which needs no download.
    TOML is a file with the same settings as the options; an option wins. Run again, it skips what is done
    and goes on with what is not.
    """
    if list_studies:
        return _print_studies(as_json)
    with bad_input():
        settings = (read_toml(toml) if toml else {}) | _given(options)
        if launched_ranks() > 1:
            from .engines import torchrun

            settings = torchrun.suited(settings, jobs, engine)
        config = study_config(**settings)
        plain_name(config.name, "name")
        check_writable(runs, reports)
        from condense_core.store import RunStore

        from .engines import chosen, gpu_is_here
        from .studies import Study

        store = RunStore(runs)
        connection = click.get_current_context().with_resource(ExitStack())
        cluster = connection.enter_context(chosen(engine, address, gpus_per_run))
        study = Study.of(config, device, cluster.has_gpu if cluster else gpu_is_here)
        if cluster:
            cluster.check(study.run_configs()[0][1])
        _check_runs(study, store, thoroughly=not dry_run)
    if dry_run:
        if is_first_rank():
            with bad_input():
                _print_plan(study, store, as_json, jobs, force, cluster)
        return 0
    if launched_ranks() > 1:
        with bad_input():
            outcomes = torchrun.train(study, store, data_dir, rank_timeout, force)
        if not is_first_rank():
            return 0  # whatever became of them, so that torchrun lets rank 0 say it
    else:
        from .engines import split_finished

        with bad_input():
            outcomes, left = split_finished([config for _, config in study.run_configs()], store)
            if left:
                _prepare(study, left, store, data_dir, force, cluster)
            store.create()
            if note := study.enter(store):
                say(note, err=True)
        if left:
            outcomes += _train(study, left, store, data_dir, jobs, force, cluster)
        connection.close()
    if any(outcome.state in ("stopped", "held") for outcome in outcomes):
        return _exit_status(outcomes, study.config.name, store)  # without a report of what is not there yet
    return _conclude(study, store, reports, outcomes, sort, as_json)


def _print_studies(as_json: bool) -> int:
    from .studies import NAMED_STUDIES

    if as_json:
        studies = {
            name: {"question": study.question, "paper": study.paper} for name, study in NAMED_STUDIES.items()
        }
        click.echo(json.dumps(studies, indent=1))
        return 0
    from .text import print_table

    rows = [(name, study.question, study.paper) for name, study in NAMED_STUDIES.items()]
    print_table("Studies", ("study", "asks", "in the paper"), rows)
    return 0


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _check_runs(study: Study, store: RunStore, thoroughly: bool) -> None:
    """Raise ValueError where a run that was begun is damaged: nothing may be built on it."""
    from condense_core.store import check_run, damage

    check = check_run if thoroughly else lambda run: (run.record, run.status)
    names = [config.name for _, config in study.run_configs()]
    faults = [fault for name in names if (fault := damage(store, name, check))]
    if faults:
        more = f" (and {len(faults) - 1} more runs are damaged)" if faults[1:] else ""
        raise ValueError(f"{faults[0]}; remove the run's folder to train it anew{more}")


def _prepare(
    study: Study, left: list[RunConfig], store: RunStore, data_dir: Path, force: bool, cluster: Cluster | None
) -> None:
    """Raise ValueError where runs cannot start or go on; data is decoded once, so that a bad image is named."""
    from .engines import prepare_workers, refuse_changed

    if not cluster:
        prepare_workers()
    from condense_core.data import load

    from .engines import decoding

    with decoding() as progress:
        fingerprint = load(study.config.data_config, data_dir, progress).fingerprint
    if not force:
        refuse_changed(left, store, fingerprint)


def _print_plan(
    study: Study, store: RunStore, as_json: bool, jobs: int | None, force: bool, cluster: Cluster | None
) -> None:
    from .engines import default_jobs, refuse_changed, split_finished
    from .studies import plan
    from .text import duration

    finished, left = split_finished([config for _, config in study.run_configs()], store)
    if not force:
        refuse_changed(left, store, None)
    rows = plan(study, store)
    if as_json:
        click.echo(json.dumps({"study": study.config.name, "runs": rows}, indent=1))
        return
    from .text import count, print_table

    columns = ("run", "variant", "to base", "seed", "MACs", "params", "seconds", "state")
    print_table(
        f"{study.config.name}: {len(rows)} runs",
        columns,
        [
            (
                row["run"],
                row["variant"],
                f"{100 * row['residual']:+.1f} %",
                str(row["seed"]),
                count(row["macs"]),
                count(row["params"]),
                f"{row['estimated_seconds']:.1f}",
                row["state"],
            )
            for row in rows
        ],
    )
    if not left:
        say(f"All {len(finished)} runs are at their end: nothing is left to train. Nothing was written.")
        return
    slots = cluster.slots(left[0]) if cluster else default_jobs(left[0].threads, left[0].device)
    jobs = min(jobs, slots) if cluster and jobs else jobs or slots
    seconds = sum(row["remaining_seconds"] for row in rows)
    about = f"about {duration(seconds / jobs)} with {jobs} at once"
    say(f"{len(left)} of {len(rows)} runs are left to train, {about}. Nothing was written.")


def _train(
    study: Study,
    left: list[RunConfig],
    store: RunStore,
    data_dir: Path,
    jobs: int | None,
    force: bool,
    cluster: Cluster | None,
) -> list[Outcome]:
    from .engines import StopSwitch, default_jobs, execute_all, show

    configs = [config for _, config in study.run_configs()]
    stop, at_once = StopSwitch(), ""
    if cluster:
        ending = cluster.execute_all(left, store, data_dir, jobs, stop, force)
    else:
        jobs = min(jobs or default_jobs(study.config.threads, study.device), len(left))
        ending, at_once = execute_all(left, store, data_dir, jobs, stop, force), f", {jobs} at once"
    say(f"{study.config.name}: {len(left)} of {len(configs)} runs to train{at_once}", err=True)
    with stopping(stop), show(store, configs) as done:
        outcomes = []
        for outcome in ending:
            outcomes.append(outcome)
            done(outcome)
    return outcomes


@contextmanager
def stopping(stop: StopSwitch) -> Iterator[None]:
    """Ctrl-C or SIGTERM once: every run saves its state and ends; twice: at once."""
    asked = False  # here: a worker that got the signal too may have set the switch before

    def handle(signum: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            stop.now.set()
            raise KeyboardInterrupt
        asked = True
        stop.event.set()
        say("Stopping: the runs save their state. Once more to stop at once.", err=True)

    with signals_to(handle):
        yield


def _conclude(
    study: Study, store: RunStore, reports: Path, outcomes: list[Outcome], sort: str, as_json: bool
) -> int:
    """Print what was found, write the report, and return the exit status."""
    from .reporting import StudyReport, write_report

    states = Counter(outcome.state for outcome in outcomes)
    name = study.config.name
    report = StudyReport(store, name)
    page = write_report(report, reports)
    runs, summary, effects, sentences = report.runs, report.summary, report.effects, report.findings
    if sort != "study" and len(summary):
        summary = summary.sort_values({"error": "error_mean"}.get(sort, sort), kind="stable")
    if as_json:
        result = {"study": name, "states": states, "findings": sentences, "report": str(page)}
        tables = {"summary": summary, "effects": effects, "runs": runs}
        plain = {key: json.loads(frame.to_json(orient="records")) for key, frame in tables.items()}
        click.echo(json.dumps(result | plain, indent=1))
    else:
        from .reporting import EFFECT_COLUMNS, SUMMARY_COLUMNS, effect_rows, summary_rows
        from .text import print_table

        print_table(name, SUMMARY_COLUMNS, summary_rows(summary))
        if len(effects):
            print_table(
                "Main effects (difference in points of test error)", EFFECT_COLUMNS, effect_rows(effects)
            )
        for sentence in sentences:
            say(f"- {sentence}")
        say(f"Report: {page} (beside it: its tables as .csv and .parquet, its figures as .svg)")
    return _exit_status(outcomes, name, store)


def _exit_status(outcomes: list[Outcome], name: str, store: RunStore) -> int:
    from .studies import report_of

    states = Counter(outcome.state for outcome in outcomes)
    for outcome in outcomes:
        for note in outcome.notes:
            say(one_line(f"{outcome.run}: {note}"), err=True)
        if outcome.state not in ("done", "stopped"):
            say(one_line(f"{outcome.state}: {outcome.run}: {outcome.reason}"), err=True)
    if states["stopped"]:
        say(
            f"Stopped; {states['done']} of {len(outcomes)} runs are done. The same command goes on"
            + (f"; {report_of(name, store)} shows what there is." if states["done"] else "."),
            err=True,
        )
        return 130
    if states["held"]:
        say("What others train is skipped: the same command, once they have ended, does the rest.", err=True)
    return 1 if states["failed"] or states["held"] else 0


if __name__ == "__main__":
    main(ablate)
