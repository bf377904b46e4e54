"""Studies: which variants of a network are trained, on equal terms, with which seeds."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis import engines
from analysis.masks import LEARNED, MASK_VARIANTS, other_seed
from condense_core.config import MasksConfig, RunConfig
from condense_core.data import DatasetSummary, summarise
from condense_core.files import LeftOut
from condense_core.store import RunStore, forked
from condense_core.tables import GIVEN
from condense_core.validation import to_dict

from .budget import PREFIX, budget_run, budget_variant
from .config import StudyConfig, study_config
from .fork_levels import parse_fork
from .forks import fork_variants
from .named import NAMED_STUDIES
from .study_html import study_html
from .tuning import FIRST_SEED, Row, Trial, are_finished, judged, trials, with_values
from .variants import Grid, Variant

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Planned:
    """A run that a study takes, and its role: tuning, or that of its variant.

    As long as settings are tuned, the name of a result `is_known` not to be final.
    """

    variant: Variant
    config: RunConfig
    role: str
    is_known: bool = True
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Variants × seeds on one data set with one recipe.

    If settings are tuned, its runs are known once `tuning` says what was chosen: the rows of its record. An
    uneven budget is known once the study is `budgeted`.
    """

    config: StudyConfig
    data: DatasetSummary
    device: str = "cpu"
    tuning: tuple[Row, ...] = ()
    uneven: Variant | None = None

    @classmethod
    def named(cls, study: str, device: str = "auto", **settings: Any) -> Study:
        """Return the study of that name, with any setting of `StudyConfig` changed.

        Raises ValueError for a bad setting.
        """
        return cls.of(study_config(study=study, **settings), device)

    @classmethod
    def of(
        cls, config: StudyConfig, device: str = "auto", has_gpu: Callable[[], bool] = engines.gpu_is_here
    ) -> Study:
        """Return the study of `config`; looks at the data but decodes nothing. Raises if either is bad.

        `has_gpu` says whether the machines that train it have a GPU.
        """
        study = cls(config, summarise(config.data_config), engines.resolve_device(device, has_gpu))
        if study.data.note and engines.is_first_rank():
            warnings.warn(study.data.note, LeftOut, stacklevel=3)
        study.planned()  # raises if a variant is bad
        study.grid.check_match()
        return study

    @cached_property
    def grid(self) -> Grid:
        """How the variants follow from the settings."""
        return Grid(self.config, self.data)

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """The grid, the dense controls and the leading axis at further sizes, each network once."""
        chosen = {row["variant"]: row["values"] for row in self.tuning if row["chosen"]}
        found = [with_values(variant, chosen.get(variant.label, {})) for variant in self.grid.variants]
        base = next(variant for variant in found if variant.role == "base")
        forks = fork_variants(base, self._run_config(base, base.first_seed), self.config.fork)
        return (*found, *([replace(self.uneven, recipe=base.recipe)] if self.uneven else []), *forks)

    @property
    def base(self) -> Variant:
        """The variant that all are compared with."""
        return next(variant for variant in self.variants if variant.role == "base")

    @property
    def is_path(self) -> bool:
        """Whether the variants are steps, each compared with the one before, and the last one is the base."""
        return self.grid.is_path

    def run_configs(self) -> list[tuple[Variant, RunConfig]]:
        """Return every run of the study, seed by seed, so that an interrupted study has whole seeds.

        There are none as long as settings are not tuned.
        """
        return list(self._run_configs) if self.is_tuned else []

    @cached_property
    def _run_configs(self) -> tuple[tuple[Variant, RunConfig], ...]:
        seeds = range(self.config.seeds)
        return tuple(
            (variant, self._run_config(variant, variant.first_seed + seed))
            for seed in seeds
            for variant in self.variants
        )

    @cached_property
    def trials(self) -> list[tuple[Trial, list[RunConfig]]]:
        """What is tried before the runs of the study, each with its runs."""
        seeds = range(FIRST_SEED, FIRST_SEED + self.config.tune_seeds)
        tried = trials(self.config, self.grid.variants)
        return [(trial, [self._run_config(trial.variant, seed) for seed in seeds]) for trial in tried]

    @property
    def is_tuned(self) -> bool:
        """Whether all settings are known: nothing is tuned, or it has been."""
        return bool(self.tuning) or not self.trials

    def budgeted(self, store: RunStore, data_dir: Path, keep: bool = True) -> Study:
        """Return the study with its uneven budget, if it asks for one, from a run of the store.

        The sensitivity of that run is taken once; `keep` it with the run. Raise ValueError or
        FileNotFoundError if the run cannot give one.
        """
        if self.config.budget is None:
            return self
        run = budget_run(self.config.budget, store, self.base.model)
        config = replace(self.config, budget=PREFIX + run.name)
        return replace(self, config=config, uneven=budget_variant(self.base, run, data_dir, keep))

    def settled(self, store: RunStore) -> Study:
        """Return the study with its settings chosen, if the store has all runs that try them; else itself."""
        if self.is_tuned:
            return self
        rows = [trial.row(runs) for trial, runs in self.trials]
        return replace(self, tuning=tuple(judged(rows, store))) if are_finished(rows, store) else self

    def planned(self) -> list[Planned]:
        """Return every run that the study takes: those of the tuning, then the results.

        As long as settings are not tuned, the results have the study's own.
        """
        tried = [
            Planned(trial.variant, run, "tuning", values=trial.values)
            for trial, runs in self.trials
            for run in runs
        ]
        results = [Planned(variant, run, variant.role, self.is_tuned) for variant, run in self._run_configs]
        return tried + results

    def next_runs(self) -> list[RunConfig]:
        """Return the runs that can be trained now: those of the tuning, or the results, each once."""
        runs = [run.config for run in self.planned() if (run.role == "tuning") != self.is_tuned]
        return list({run.name: run for run in runs}.values())

    def _run_config(self, variant: Variant, seed: int) -> RunConfig:
        config = self.config
        if variant.fork:
            return forked(self._run_config(self.base, seed), *parse_fork(variant.fork))
        return RunConfig(
            variant.model,
            variant.recipe,
            replace(config.data_config, content=self.data.content),
            seed,
            threads=config.threads,
            device=self.device,
            execution=config.execution,
            importance_every=config.importance_every,
            **self._taken(variant, seed),
        )

    def _taken(self, variant: Variant, seed: int) -> dict[str, Any]:
        """Return the settings of a run that takes masks or initial weights from another run of the study."""
        how, found = MASK_VARIANTS.get(variant.masks), dict[str, Any]()
        if how and how.grouping == GIVEN:
            learned = next(one for one in self.variants if (one.masks, one.size) == (LEARNED, variant.size))
            source = self._run_config(learned, other_seed(seed) if how.of_another_seed else seed)
            found["masks"] = MasksConfig(source.name, how.shuffled)
        if how and how.other_weights:
            found["initial_seed"] = other_seed(seed)
        return found

    def record(self, store: RunStore | None = None) -> dict[str, Any]:
        """Return the study as `store` keeps it: its settings, and role and runs of each variant."""
        runs: dict[str, list[str]] = {}
        for variant, config in self.run_configs():
            run = store.run(config) if store else config  # a store may know it by an older name
            runs.setdefault(variant.label, []).append(run.name)
        names = ("label", "role", "size", "residual", "curve")
        variants = [
            {**{name: getattr(variant, name) for name in names}, "runs": runs.get(variant.label, [])}
            | ({"first_seed": variant.first_seed} if variant.first_seed else {})
            for variant in self.variants
        ]
        tried = list(self.tuning) or [trial.row(runs) for trial, runs in self.trials]
        return {
            "name": self.config.name,
            "question": NAMED_STUDIES[self.config.study].question,
            "path": self.is_path,
            "settings": to_dict(self.config),
            "variants": variants,
            **({"tuning": tried} if tried else {}),
        }

    def enter(self, store: RunStore) -> str | None:
        """Write the study's record; return a note if it replaces another study of the same name."""
        name = self.config.name
        if not (kept := store.keep_study(name, self.settled(store).record(store))):
            return None
        before, now = store.read_study(kept)["settings"], to_dict(self.config)
        changed = [key for key in now if key != "name" and before.get(key) != now[key]]
        texts = ", ".join(f"{key} {_plain(before.get(key))}, now {_plain(now[key])}" for key in changed)
        texts = texts or f"of other images in {self.config.data}"
        return (
            f"{name} was another study before ({texts}); its list of runs is kept as {kept}: "
            f"{report_command(kept, store)}. Use --name to give each its own name"
        )

    def _repr_html_(self) -> str:
        return study_html(self)

    def run(
        self,
        runs: str | Path = "runs",
        data_dir: str | Path = "data",
        jobs: int | None = None,
        progress: bool = False,
        force: bool = False,
        engine: str = "processes",
        address: str | None = None,
        gpus_per_run: float | None = None,
    ) -> pd.DataFrame:
        """Train what is not yet trained, and return the study's runs as a tidy frame (`frames.study_runs`).

        If `jobs` (default 1) is above 1, runs train in processes, so a script then needs its
        `if __name__ == "__main__":`. `engine` "ray" trains on the cluster at `address` or, without one, on a
        local one, by default as many runs at once as there is room for (`analysis.engines.ray_cluster`).
        `progress` shows a bar; `force` restarts runs whose code, torch or data changed, and keeps the old ones.
        Warns of runs that failed, with their reasons, and of what was noted while they trained.
        """
        from analysis import frames

        store, name = RunStore(Path(runs)), self.config.name
        study, here = self.budgeted(store, Path(data_dir)), jobs is None or jobs == 1
        with engines.connect(engine, address, gpus_per_run, in_this_process=here) as chosen:
            launch = engines.Launch(chosen, study.next_runs(), store, Path(data_dir), force)
            with launch.prepared(study.enter) as training:
                if training.note:
                    warnings.warn(training.note, stacklevel=2)
                outcomes = training.with_bar(jobs, progress)
                if not study.is_tuned and engines.all_finished(outcomes):
                    outcomes = outcomes + study.after_tuning(training).with_bar(jobs, progress)
        for outcome in outcomes:
            for note in outcome.notes:
                warnings.warn(f"{outcome.run}: {note}", stacklevel=2)
            if outcome.state != "done":
                warnings.warn(f"{outcome.state}: {outcome.run}: {outcome.reason}", stacklevel=2)
        return frames.study_runs(store, name)

    def after_tuning(self, training: engines.Training) -> engines.Training:
        """Choose the settings from the runs that tried them, and prepare the study's own runs."""
        study = training.once(self.settled)
        return training.then(study.next_runs(), study.enter)


def report_command(name: str, store: RunStore) -> str:
    """Return the command that reports a study of a store."""
    option = "" if store.root == Path("runs") else f" --runs {shlex.quote(str(store.root))}"
    return f"python -m analysis.report {name}{option}"


def _plain(value: Any) -> str:
    """A setting as the command line takes it."""
    if isinstance(value, dict):
        return " ".join(f"{name}={_plain(item)}" for name, item in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
