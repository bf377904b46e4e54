"""What the report of tracked runs cannot show, each in a sentence with what would mend it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from analysis.text import inert

if TYPE_CHECKING:
    from .study_report import StudyReport


def not_there(study: StudyReport) -> list[str]:
    """Return what is missing from the report of a tracked study; nothing for one of `analysis.ablate`."""
    return list(_missing(study)) if study.is_tracked and len(study.done) else []


def _missing(study: StudyReport) -> Iterator[str]:
    runs = [run for run in study.started if run.status["state"] == "done"]
    if study.done.test_error_percent.isna().all():
        yield "No errors are compared: no run was given run.outcomes('test', logits, labels)."
    elif study.done.variant.nunique() < 2:
        yield "No effects are shown: there is one variant. Give other networks or settings another variant."
    if not any(run.epochs() for run in runs):
        yield "No curves are drawn: no epoch was logged with run.log(epoch=…, train_loss=…)."
    if not any(record["before"] for run in runs for record in run.stages()):
        yield "What each pruning step did to the error is not known: give analysis.track a function evaluate."
    for reason in dict.fromkeys(run.tracked.untraced for run in runs):
        if reason:
            yield f"The layers that inputs come from are not known, only their channels: {inert(reason)}."
    yield "There is no audit: how your loop draws, tunes and tests is known to you alone."
