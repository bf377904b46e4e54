"""What the runs of a study show: its frames, its comparisons, and the findings in sentences."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import pandas as pd

from analysis import frames, stats
from analysis.margin import MEANINGFUL
from condense_core.files import LeftOut
from condense_core.store import Run, RunStore, find_damages, runs_of

from .controls import equal_cost_sentences, reference_sentences, same_sentences
from .effects import effect_sentence, interaction_sentences, uncovered_sentences
from .masks import chain_sentences
from .terms import unequal_cost, unequal_terms
from .tuning import cautions, tuning_sentences


@dataclass(frozen=True)
class StudyFindings:
    """The evidence of one study of a store, which is read once."""

    store: RunStore
    name: str
    meaningful: float = MEANINGFUL

    @cached_property
    def record(self) -> dict[str, Any]:
        """The study's settings, question and variants."""
        return self.store.read_study(self.name)

    @property
    def is_tracked(self) -> bool:
        """Whether its runs are those of loops of one's own (`analysis.track`)."""
        return bool(self.record.get("tracked"))

    @cached_property
    def damaged(self) -> dict[str, str]:
        """The runs with a damaged file, and the fault of each; the report leaves them out."""
        faults = find_damages(self.store, runs_of(self.record))
        for fault in faults.values():
            warnings.warn(f"left out: {fault}", LeftOut, stacklevel=2)
        return faults

    @cached_property
    def runs(self) -> pd.DataFrame:
        """`frames.study_runs` without the damaged runs."""
        return frames.study_runs(self.store, self.name, self.damaged)

    @property
    def done(self) -> pd.DataFrame:
        """The finished runs."""
        return self.runs[self.runs.state == "done"] if len(self.runs) else self.runs

    @cached_property
    def outcomes(self) -> stats.Outcomes:
        """What the finished runs say of each test image; nothing for runs of earlier versions."""
        return frames.answers([run for run in self.started if run.status["state"] == "done"])

    @cached_property
    def compared(self) -> pd.DataFrame:
        """`stats.comparisons`."""
        return stats.comparisons(self.runs, self.outcomes, self.meaningful)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """`stats.summary`."""
        return stats.summarised(self.runs, self.compared, self.outcomes)

    @cached_property
    def effects(self) -> pd.DataFrame:
        """`stats.effects`."""
        return stats.of_kind(self.compared, stats.MAIN)

    @cached_property
    def interactions(self) -> pd.DataFrame:
        """`stats.interactions`."""
        return stats.of_kind(self.compared, stats.INTERACTION)

    @cached_property
    def started(self) -> list[Run]:
        """The runs that were started."""
        return [Run(self.store.root / name) for name in self.runs.run] if len(self.runs) else []

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The `Run.record` of every started run; each takes some kilobytes."""
        return [run.record for run in self.started]

    @cached_property
    def findings(self) -> list[str]:
        """The findings as sentences."""
        found = comparison_sentences(self.effects, self.summary, self.interactions)
        found += chain_sentences(self.effects)
        found += equal_cost_sentences(self.summary) + same_sentences(self.runs) + unequal_terms(self.runs)
        return found + (cautions(self.trials) if found else [])

    def setting(self, name: str, otherwise: Any = None) -> Any:
        """Return a setting of the study, or another value if its version had none."""
        return self.record["settings"].get(name, otherwise)

    @property
    def trials(self) -> list[dict[str, Any]]:
        """What was tried to tune the settings of each variant: the rows of the record."""
        return list(self.record.get("tuning", ()))

    @property
    def tuning(self) -> list[str]:
        """How the settings were tuned, as sentences."""
        if self.is_tracked:
            return ["Whether settings were tuned, and on what, is known to the loops' author alone."]
        return tuning_sentences(self.trials)

    @property
    def unfinished(self) -> list[dict[str, str]]:
        """Runs that are not done, with their reasons."""
        rows = self.runs[self.runs.state != "done"] if len(self.runs) else self.runs
        return [{"run": row.run, "state": row.state, "reason": row.reason or ""} for row in rows.itertuples()]

    @property
    def seconds(self) -> float:
        """The training time of all runs, in seconds."""
        return float(self.runs.seconds.sum()) if len(self.runs) else 0.0

    @property
    def requested(self) -> int:
        """The number of runs of the study, started or not."""
        return sum(len(variant["runs"]) for variant in self.record["variants"])

    @property
    def not_started(self) -> int:
        """The number of runs that were not started."""
        return self.requested - len(self.started) - len(self.damaged)

    @cached_property
    def curves_on(self) -> str:
        """The images that the curves are measured on: validation or test."""
        return next((run.epochs()[0]["curves_on"] for run in self.started if run.epochs()), "validation")


def joined_outcomes(studies: Sequence[StudyFindings]) -> stats.Outcomes | None:
    """Return the outcomes of several studies; None if their data differ, so that no image is the same."""
    data = [study.runs.data_fingerprint for study in studies if len(study.runs)]
    if not data or pd.concat(data).nunique() != 1:
        return None
    return reduce(stats.Outcomes.joined, (study.outcomes for study in studies))


def comparison_sentences(effects: pd.DataFrame, summary: pd.DataFrame, interactions: pd.DataFrame) -> list[str]:
    """Return the effects and interactions as sentences, then the base compared with the dense reference."""
    sentences = [effect_sentence(effect) for _, effect in effects.iterrows()]
    sentences += interaction_sentences(interactions) + unequal_cost(summary)
    return sentences + reference_sentences(summary) + uncovered_sentences(effects)
