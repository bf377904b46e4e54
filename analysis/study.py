"""Studies: which variants of a network are trained, on equal terms, with which seeds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense_core.config import ModelConfig, RunConfig, growth_rates
from condense_core.settings import nearest, to_dict

from .study_config import NAMED_STUDIES, StudyConfig, part_of, study_config

if TYPE_CHECKING:
    import pandas as pd

    from condense_core.data import Description

MATCH_TOLERANCE = 0.05


@dataclass(frozen=True)
class Variant:
    """A network of a study. `role`: base, grid, reference or size; `residual`: final MACs / target's − 1."""

    model: ModelConfig
    role: str
    size: int
    residual: float

    @property
    def label(self) -> str:
        """The name of its network."""
        return self.model.label


def width_step(model: ModelConfig) -> int:
    """The smallest step of k0 with which all groups still divide their channels."""
    return math.lcm(model.groups_3x3, model.groups // math.gcd(model.groups, model.bottleneck))


def match_cost(model: ModelConfig, macs: int) -> ModelConfig:
    """`model` with the k0 whose final MACs come nearest to `macs`, in steps that all groups divide."""
    from condense_core.cost import cost_table

    step, schedule = width_step(model), model.growth_schedule
    costed = dataclasses.replace(model, grouping="learned")  # all groupings cost the same: measure one

    def rates(steps: int) -> tuple[int, ...]:
        return growth_rates(schedule, steps * step, len(model.stages))

    def excess(steps: int) -> int:
        return cost_table(dataclasses.replace(costed, growth=rates(steps))).macs - macs

    above = 1
    while excess(above) < 0:
        above *= 2
    below = above // 2  # cost grows with k0: halve the bracket
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if excess(middle) < 0 else (below, middle)
    steps = min((below, above), key=lambda steps: abs(excess(steps)) if steps else math.inf)
    return dataclasses.replace(model, growth=rates(steps))


@dataclass(frozen=True)
class Study:
    """Variants × seeds on one data set with one recipe."""

    config: StudyConfig
    data: Description
    device: str = "cpu"

    @classmethod
    def named(cls, study: str, device: str = "auto", **settings: Any) -> Study:
        """A study by name, with any setting of `StudyConfig` changed. Raises ValueError for a bad one."""
        return cls.of(study_config(study=study, **settings), device)

    @classmethod
    def of(cls, config: StudyConfig, device: str = "auto") -> Study:
        """The study of `config`; looks at the data, decodes nothing. Raises where either is bad."""
        import torch

        from condense_core.data import describe

        if device not in (valid := ("auto", "cpu", "cuda")):
            raise ValueError(f"device {device!r}: {nearest(device, valid)}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device 'cuda': there is none; valid: auto, cpu")
        study = cls(config, describe(config.data_config), device)
        study.check_match()
        return study

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """The grid, the dense reference and the groupings at further sizes; the base comes first."""
        first_of_its_kind: dict[ModelConfig, Variant] = {}
        for variant in self._variants():
            first_of_its_kind.setdefault(variant.model, variant)
        return tuple(first_of_its_kind.values())

    def _variants(self) -> Iterator[Variant]:
        config = self.config
        first = (config.grouping[0], config.growth[0], config.connectivity[0])
        for cell in product(config.grouping, config.growth, config.connectivity):
            yield self._variant(*cell, config.growth_rate, "base" if cell == first else "grid")
        groupings = list(config.grouping)
        if config.reference and "none" not in groupings:
            yield self._variant("none", *first[1:], config.growth_rate, "reference")
            groupings.append("none")
        for size in config.sizes:
            for grouping in groupings:
                yield self._variant(grouping, *first[1:], size, "size")

    def _variant(self, grouping: str, growth: str, connectivity: str, size: int, role: str) -> Variant:
        from condense_core.cost import cost_table

        first = (self.config.growth[0], self.config.connectivity[0])
        model = self._model(grouping, growth, connectivity, size)
        target = cost_table(self._model(self.config.grouping[0], *first, size)).macs
        if self.config.match == "cost" and grouping != "none" and role == "grid":
            model = match_cost(model, target)
        return Variant(model, role, size, cost_table(model).macs / target - 1)

    def _model(self, grouping: str, growth: str, connectivity: str, size: int) -> ModelConfig:
        axes: dict[str, Any] = {"grouping": grouping, "connectivity": connectivity}
        if grouping == "none":
            axes |= {"groups": 1, "condense_factor": 1}
        data = {"num_classes": self.data.num_classes, "image_size": self.data.image_size}
        rates = growth_rates(growth, size, len(self.config.stages))
        return part_of(ModelConfig, vars(self.config) | axes | data | {"growth": rates})

    def check_match(self) -> None:
        """Raise ValueError where a variant cannot be matched to the base's cost closely enough."""
        if self.config.match == "width":
            return
        for variant in self.variants:
            matched = variant.role == "grid" and variant.model.grouping != "none"
            if matched and abs(variant.residual) > MATCH_TOLERANCE:
                raise ValueError(
                    f"match 'cost': {variant.label} comes only within {100 * variant.residual:+.1f} % of the "
                    f"base's MACs (at most {100 * MATCH_TOLERANCE:.0f} %); choose another growth_rate or "
                    "match 'width'"
                )

    @property
    def base(self) -> Variant:
        """The variant that all are compared with."""
        return self.variants[0]

    def run_configs(self) -> list[tuple[Variant, RunConfig]]:
        """Every run of the study, seed by seed, so that an interrupted study has whole seeds."""
        return [
            (variant, self._run_config(variant, seed))
            for seed in range(self.config.seeds)
            for variant in self.variants
        ]

    def _run_config(self, variant: Variant, seed: int) -> RunConfig:
        config = self.config
        return RunConfig(
            variant.model, config.recipe, config.data_config, seed, threads=config.threads, device=self.device
        )

    def record(self) -> dict[str, Any]:
        """The study as the run store keeps it: its settings, and role and runs of each variant."""
        runs: dict[str, list[str]] = {}
        for variant, run in self.run_configs():
            runs.setdefault(variant.label, []).append(run.name)
        variants = [
            {
                "label": variant.label,
                "role": variant.role,
                "size": variant.size,
                "residual": variant.residual,
                "runs": runs[variant.label],
            }
            for variant in self.variants
        ]
        return {
            "name": self.config.name,
            "question": NAMED_STUDIES[self.config.study][0],
            "settings": to_dict(self.config),
            "variants": variants,
        }

    def run(self, runs: Path = Path("runs"), data_dir: Path = Path("data"), jobs: int = 1) -> pd.DataFrame:
        """Train what is not yet trained, and return the study's runs as a tidy frame (`frames.study_runs`).

        More than one of `jobs` start processes, so a script then needs its `if __name__ == "__main__"`.
        """
        from condense_core.data import load
        from condense_core.runs import RunStore

        from . import frames
        from .running import run_all

        store = RunStore(runs)
        load(self.config.data_config, data_dir)  # a bad image is named before anything starts
        store.create()
        store.write_study(self.config.name, self.record())
        run_all([config for _, config in self.run_configs()], store, data_dir, jobs)
        return frames.study_runs(store, self.config.name)
