"""Studies: which variants of a network are trained, on equal terms, with which seeds."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.axes import AXES, MATCH_TOLERANCE, level_name
from analysis.engines import gpu_is_here, resolve_device
from condense_core.config import LEARNED, WEIGHT_CRITERIA, ModelConfig, RecipeConfig, RunConfig, growth_rates
from condense_core.cost import cost_table
from condense_core.data import DatasetSummary, summarise
from condense_core.validation import to_dict

from .config import StudyConfig, part_of, study_config
from .matching import match_cost
from .named import NAMED_STUDIES, PATH

if TYPE_CHECKING:
    import pandas as pd

    from condense_core.store import RunStore


Cell = dict[str, Any]  # a level of every axis


@dataclass(frozen=True)
class Variant:
    """A network of a study and how it is trained.

    `role`: base, grid, reference or size; `residual`: final MACs / target's − 1; `curve`: the curve of the
    trade-off that it is on, if any.
    """

    model: ModelConfig
    recipe: RecipeConfig
    role: str
    size: int
    residual: float
    label: str
    curve: str | None


@dataclass(frozen=True)
class Study:
    """Variants × seeds on one data set with one recipe."""

    config: StudyConfig
    data: DatasetSummary
    device: str = "cpu"

    @classmethod
    def named(cls, study: str, device: str = "auto", **settings: Any) -> Study:
        """A study by name, with any setting of `StudyConfig` changed. Raises ValueError for a bad one."""
        return cls.of(study_config(study=study, **settings), device)

    @classmethod
    def of(cls, config: StudyConfig, device: str = "auto", has_gpu: Callable[[], bool] = gpu_is_here) -> Study:
        """The study of `config`; looks at the data, decodes nothing. Raises where either is bad.

        `has_gpu` tells of the machines that it is for.
        """
        study = cls(config, summarise(config.data_config), resolve_device(device, has_gpu))
        study.run_configs()  # whatever is wrong with a variant is told here
        study.check_match()
        return study

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """The grid, the dense reference and the leading axis at further sizes; the base comes first."""
        first_of_its_kind: dict[Any, Variant] = {}
        for variant in self._variants():
            first_of_its_kind.setdefault((variant.model, variant.recipe), variant)
        return tuple(first_of_its_kind.values())

    @property
    def is_path(self) -> bool:
        """Whether its variants are steps, each compared with the one before, and the last one is the base."""
        return self.config.study == "path"

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The points of the grid: every combination of levels that there is."""
        if self.is_path:
            base = {axis: getattr(self.config, axis)[0] for axis in AXES}
            return tuple(base | step for step in PATH.values())
        crossed = product(*(getattr(self.config, axis) for axis in AXES))
        cells = [dict(zip(AXES, levels, strict=True)) for levels in crossed]
        found = [c for c in cells if c["grouping"] != "unstructured" or c["criterion"] in WEIGHT_CRITERIA]
        if not found:
            raise ValueError(f"criterion {self.config.criterion}: grouping 'unstructured' needs l1 or random")
        return tuple(found)

    @property
    def _base_cell(self) -> Cell:
        return self.cells[-1 if self.is_path else 0]

    @cached_property
    def _curves(self) -> dict[str, Cell]:
        """The cells that differ from the base in the leading axis alone, by the name of their curve."""
        if self.is_path:
            return dict(zip(PATH, self.cells, strict=True))
        axis, base = next(iter(self.config.varied), "grouping"), self._base_cell
        curves = {
            level_name(axis, cell[axis]): cell for cell in self.cells if cell == base | {axis: cell[axis]}
        }
        return curves | ({"none": base | {"grouping": "none"}} if self.config.reference else {})

    def _variants(self) -> Iterator[Variant]:
        for cell in self.cells:
            yield self._variant(cell, self.config.growth_rate, "base" if cell == self._base_cell else "grid")
        if self.config.reference:
            yield self._variant(self._base_cell | {"grouping": "none"}, self.config.growth_rate, "reference")
        for size in self.config.sizes:
            for cell in self._curves.values():
                yield self._variant(cell, size, "size")

    def _variant(self, cell: Cell, size: int, role: str) -> Variant:
        model = self._model(cell, size)
        target = cost_table(self._model(self._base_cell, size)).macs
        if self.config.match == "cost" and cell != self._base_cell and self._is_matched(cell, role):
            model = match_cost(model, target)
        curve = next((name for name, other in self._curves.items() if other == cell), None)
        residual = cost_table(model).macs / target - 1
        return Variant(model, self._recipe(cell), role, size, residual, self._label(model, cell), curve)

    def _is_matched(self, cell: Cell, role: str) -> bool:
        """Whether a variant's width is solved for: a dense one's only where it is a step of the path."""
        return self.is_path or (role == "grid" and cell["grouping"] != "none")

    def _model(self, cell: Cell, size: int) -> ModelConfig:
        axes = cell | ({"groups": 1, "condense_factor": 1} if cell["grouping"] == "none" else {})
        if cell["grouping"] == "unstructured":
            axes = axes | {"groups": self.config.groups[0]}  # it has none
        data = {"num_classes": self.data.num_classes, "image_size": self.data.image_size}
        rates = growth_rates(cell["growth"], size, len(self.config.stages))
        return part_of(ModelConfig, vars(self.config) | axes | data | {"growth": rates})

    def _recipe(self, cell: Cell) -> RecipeConfig:
        axes = cell
        if cell["grouping"] not in LEARNED:  # nothing is pruned of it: trained once, however the others are
            lasso = self.config.group_lasso[0]
            axes = cell | {"pruning": "condensing", "criterion": "l1", "group_lasso": lasso}
        if axes["pruning"] == "condensing":
            axes = axes | {"retraining_rate": None}
        return part_of(RecipeConfig, vars(self.config) | axes)

    def _label(self, model: ModelConfig, cell: Cell) -> str:
        """The network's name and the levels of those axes of the study that it does not tell."""
        told = ("grouping", "growth", "connectivity")
        varied = [axis for axis in self.config.varied if axis not in told]
        if cell["grouping"] not in LEARNED:
            varied = [axis for axis in varied if axis not in ("pruning", "criterion")]
        return " ".join([model.label, *(level_name(axis, cell[axis]) for axis in varied)])

    def check_match(self) -> None:
        """Raise ValueError where a variant cannot be matched to the base's cost closely enough."""
        if self.config.match == "width":
            return
        for variant in self.variants:
            matched = variant.role == "grid" and (self.is_path or variant.model.grouping != "none")
            if matched and abs(variant.residual) > MATCH_TOLERANCE:
                raise ValueError(
                    f"match 'cost': {variant.label} comes only within {100 * variant.residual:+.1f} % of the "
                    f"base's MACs (at most {100 * MATCH_TOLERANCE:.0f} %); choose another growth_rate or "
                    "match 'width'"
                )

    @property
    def base(self) -> Variant:
        """The variant that all are compared with."""
        return next(variant for variant in self.variants if variant.role == "base")

    def run_configs(self) -> list[tuple[Variant, RunConfig]]:
        """Every run of the study, seed by seed, so that an interrupted study has whole seeds."""
        return list(self._run_configs)

    @cached_property
    def _run_configs(self) -> tuple[tuple[Variant, RunConfig], ...]:
        seeds = range(self.config.seeds)
        return tuple((variant, self._run_config(variant, seed)) for seed in seeds for variant in self.variants)

    def _run_config(self, variant: Variant, seed: int) -> RunConfig:
        config = self.config
        return RunConfig(
            variant.model,
            variant.recipe,
            config.data_config,
            seed,
            threads=config.threads,
            device=self.device,
            execution=config.execution,
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
                "curve": variant.curve,
                "runs": runs[variant.label],
            }
            for variant in self.variants
        ]
        return {
            "name": self.config.name,
            "question": NAMED_STUDIES[self.config.study].question,
            "path": self.is_path,
            "settings": to_dict(self.config),
            "variants": variants,
        }

    def enter(self, store: RunStore) -> str | None:
        """Write the study's record; what to say where one of its name had runs that this one has not."""
        name = self.config.name
        if not (kept := store.keep_study(name, self.record())):
            return None
        before, now = store.read_study(kept)["settings"], to_dict(self.config)
        changed = [key for key in now if key != "name" and before.get(key) != now[key]]
        texts = ", ".join(f"{key} {_plain(before.get(key))}, now {_plain(now[key])}" for key in changed)
        return (
            f"{name} was another study before ({texts}); its list of runs is kept as {kept}: "
            f"{report_of(kept, store)}. With --name both have a name of their own"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the question, what it is asked of, and the variants with their cost."""
        config = self.config
        asked = f"{config.name}: {NAMED_STUDIES[config.study].question}"
        size = (
            f"{config.data} ({self.data.train_images:,} training and {self.data.test_images:,} test images), "
            f"{config.epochs} epochs, {config.seeds} seeds: {len(self.run_configs())} runs"
        )
        head, *body = ([escape(text) for text in row] for row in self._variant_rows())
        rows = "".join(
            f'<tr><td style="text-align: left">{row[0]}</td><td>{"</td><td>".join(row[1:])}</td></tr>'
            for row in body
        )
        table = f"<table><tr><th>{'</th><th>'.join(head)}</th></tr>{rows}</table>"
        return f"<p><b>{escape(asked)}</b><br>{escape(size)}</p>{table}"

    def _variant_rows(self) -> Iterator[tuple[str, ...]]:
        """The variants as texts, under their headings."""
        yield "variant", "role", "k0", "MACs", "beside the base", "parameters"
        base = cost_table(self.base.model).macs
        for variant in self.variants:
            model, cost = variant.model, cost_table(variant.model)
            beside = f"{100 * (cost.macs / base - 1):+.1f} %" if variant != self.base else "–"
            yield (
                variant.label,
                variant.role,
                str(model.growth[0]),
                f"{cost.macs:,}",
                beside,
                f"{cost.params:,}",
            )

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

        More than one of `jobs` (default 1) start processes, so a script then needs its
        `if __name__ == "__main__"`. `engine` "ray" trains on the cluster at `address` or, without one, on a
        local one, by default as many at once as it carries (`analysis.engines.ray_cluster`).
        `progress` shows a bar; by `force` runs whose code, torch or data changed are begun anew, beside the
        old ones. Runs that fail are warned of, with their reasons, and so is what was noted on the way.
        """
        from analysis import frames
        from analysis.engines import chosen, run_all, split_finished
        from condense_core.data import load
        from condense_core.store import RunStore

        store, data_dir = RunStore(Path(runs)), Path(data_dir)
        configs = [config for _, config in self.run_configs()]
        with chosen(engine, address, gpus_per_run) as cluster:
            if cluster:
                cluster.check(configs[0])
            if split_finished(configs, store)[1]:
                load(self.config.data_config, data_dir)  # a bad image is named before anything starts
            store.create()
            if note := self.enter(store):
                warnings.warn(note, stacklevel=2)
            elsewhere = cluster.execute_all if cluster else None
            outcomes = run_all(configs, store, data_dir, jobs, progress, force, elsewhere)
        for outcome in outcomes:
            for note in outcome.notes:
                warnings.warn(f"{outcome.run}: {note}", stacklevel=2)
            if outcome.state != "done":
                warnings.warn(f"{outcome.state}: {outcome.run}: {outcome.reason}", stacklevel=2)
        return frames.study_runs(store, self.config.name)


def report_of(name: str, store: RunStore) -> str:
    """The command that reports a study of a store."""
    where = "" if store.root == Path("runs") else f" --runs {shlex.quote(str(store.root))}"
    return f"python -m analysis.report {name}{where}"


def _plain(value: Any) -> str:
    """A setting as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
