"""Studies that differ in one number alone: how errors and differences change with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.stats import DIFFERENCE, MAIN, UNKNOWN, Cells, Contrast, compared

from .differences import Difference
from .study_findings import StudyFindings, joined_outcomes

MAY_DIFFER = ("name", "seeds", "threads", "execution", "importance_every")  # none of them is compared


@dataclass(frozen=True)
class StudySeries:
    """Studies in the order of the `setting` that they differ in; the first variant of each is its base."""

    studies: tuple[StudyFindings, ...]
    setting: str

    @classmethod
    def of(cls, studies: Sequence[StudyFindings]) -> StudySeries | None:
        """Return studies as a series if they differ in one number and have as many variants, else None."""
        if len(studies) < 2 or any(study.is_tracked or study.runs.empty for study in studies):
            return None
        names = dict.fromkeys(name for study in studies for name in study.record["settings"])
        varied = [
            name
            for name in names
            if name not in MAY_DIFFER and any(s.setting(name) != studies[0].setting(name) for s in studies)
        ]
        if len(varied) != 1 or len({len(_variants(study)) for study in studies}) > 1:
            return None
        values = [study.setting(varied[0]) for study in studies]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        if not numbers or len(set(values)) < len(values):
            return None
        return cls(tuple(sorted(studies, key=lambda study: study.setting(varied[0]))), varied[0])

    @property
    def values(self) -> list[float]:
        """The values of the setting, from the least to the largest."""
        return [study.setting(self.setting) for study in self.studies]

    @property
    def variants(self) -> list[str]:
        """The names that the variants have in the first study, the base first."""
        return _variants(self.studies[0])

    def _named(self, study: StudyFindings, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a frame of a study with the names of the first one, and the value of the setting."""
        names = dict(zip(_variants(study), self.variants, strict=True))
        return frame.assign(variant=frame.variant.map(names), value=study.setting(self.setting))

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The runs of all studies, with a column `value`."""
        return pd.concat([self._named(study, study.runs) for study in self.studies], ignore_index=True)

    @cached_property
    def errors(self) -> pd.DataFrame:
        """`stats.summary` of all studies, with a column `value`."""
        return pd.concat([self._named(study, study.summary) for study in self.studies], ignore_index=True)

    @cached_property
    def compared(self) -> pd.DataFrame:
        """`stats.compared` of variants with the base at each value, and of the last value with the first."""
        cells = Cells(self.runs.assign(variant=_cell(self.runs.variant, self.runs.value.astype(str))))
        found = [contrast for contrast in self._contrasts(cells) if contrast]
        return compared(cells, found, joined_outcomes(self.studies), self.studies[0].meaningful)

    def _contrasts(self, cells: Cells) -> list[Contrast | None]:
        base, *others = self.variants
        found = []
        for variant in others:
            signs = [{_cell(variant, str(v)): 1, _cell(base, str(v)): -1} for v in self.values]
            change = signs[-1] | {name: -sign for name, sign in signs[0].items()}
            found.append(cells.contrast(MAIN, {"variant": variant, "value": ""}, [change]))
            for value, own in zip(self.values, signs, strict=True):
                found.append(cells.contrast(DIFFERENCE, {"variant": variant, "value": str(value)}, [own]))
        return found

    @property
    def differences(self) -> pd.DataFrame:
        """The difference of each variant to the base at each value, in points."""
        rows = self.compared[self.compared.kind == DIFFERENCE] if len(self.compared) else self.compared
        return rows.assign(value=rows.value.astype(float)).drop(columns="kind") if len(rows) else rows

    @property
    def sentences(self) -> list[str]:
        """How the difference of each variant to the base changes from the first value to the last."""
        rows = self.compared[self.compared.kind == MAIN] if len(self.compared) else self.compared
        return [self._sentence(row.variant, Difference.of_effect(row)) for row in rows.itertuples()]

    def _sentence(self, variant: str, found: Difference) -> str:
        name = f"From {self.values[0]:g} to {self.values[-1]:g} {self.setting.replace('_', ' ')}"
        between = f"the difference of {variant} to {self.variants[0]}"
        if found.differs:
            return f"{name} {between} changes by {found.numbers}.{found.more}"
        if found.is_same:
            return f"{name} {between} stays the same within {found.meaningful:g} points: {found.numbers}."
        if found.finding == UNKNOWN:
            return f"{name} {between} changes by {found.numbers}; {found.unknown}."
        return f"{name}, whether {between} changes is open: {found.numbers}.{found.more}"


def _variants(study: StudyFindings) -> list[Any]:
    return list(dict.fromkeys(study.runs.variant))


def _cell(variant: Any, value: Any) -> Any:
    return variant + " at " + value
