"""The audit: the questions that a sceptical reader asks of a study, and how far its evidence answers them.

After Blalock et al., "What is the state of neural network pruning?" (MLSys 2020), and Bouthillier et al.,
"Accounting for variance in machine learning benchmarks" (MLSys 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import of_design, of_results
from .answer import NOT_HELD, VERDICTS, Answer

if TYPE_CHECKING:
    from .study_findings import StudyFindings

QUESTIONS = (
    of_design.variation,
    of_results.seeds,
    of_results.images,
    of_design.test_images_once,
    of_design.selection,
    of_design.equal_cost,
    of_results.dense_control,
    of_results.random_control,
    of_results.independent_control,
    of_design.tuning,
    of_design.sizes,
    of_design.data_sets,
    of_results.training_cost,
    of_results.claims,
    of_design.equal_terms,
    of_design.failures,
)


def verdict_counts(answers: Sequence[Answer]) -> str:
    """Return how many requirements are held, partly and not, and name those that are not; empty if none."""
    if not answers:
        return ""
    found = {verdict: [one.requirement for one in answers if one.verdict == verdict] for verdict in VERDICTS}
    counted = ", ".join(f"{len(names)} {verdict}" for verdict, names in found.items())
    missing = f" ({'; '.join(found[NOT_HELD])})" if found[NOT_HELD] else ""
    return f"Of {len(answers)} requirements of the audit: {counted}{missing}."


def audit(study: StudyFindings) -> list[Answer]:
    """Return the answer to each question that the study raises.

    There are none if no run is done, none of a network against itself, which makes no claim, and none of
    tracked runs, of whose loops too little is known.
    """
    if study.done.empty or study.is_tracked or (study.done.role == "same").any():
        return []
    return [answer for question in QUESTIONS if (answer := question(study))]
