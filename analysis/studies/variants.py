"""The variants of a study: the grid of its axes at equal cost, its dense controls and further sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

from analysis.axes import AXES, MATCH_TOLERANCE, level_name
from condense_core.config import RETRAINING, ModelConfig, RecipeConfig, growth_rates
from condense_core.cost import cost_table
from condense_core.data import DatasetSummary
from condense_core.tables import LEARNED, SINGLE_WEIGHTS, WEIGHT_CRITERIA

from .config import StudyConfig, part_of
from .matching import match_blocks, match_cost
from .named import MASKS, PATH

Cell = dict[str, Any]  # a level of every axis
IN_MODEL_LABEL = ("grouping", "growth", "connectivity")  # axes whose levels a model's own label names


@dataclass(frozen=True)
class Variant:
    """A network of a study and how it is trained.

    `role`: base, grid, reference (dense at the base's width), dense-equal (dense at its cost), size, same (the
    base again), fork (of the base), or budget (the base with a condense factor for each layer); `residual`:
    final MACs / target's − 1; `curve`: the curve of the trade-off that it is on, if any; `first_seed`: seeds
    count from there; `masks`: its name in `MASK_VARIANTS`, if it has one; `fork`: how it leaves the base, if it
    does.
    """

    model: ModelConfig
    recipe: RecipeConfig
    role: str
    size: int
    residual: float
    label: str
    curve: str | None
    first_seed: int = 0
    masks: str = ""
    fork: str = ""


def check_residual(variant: Variant) -> None:
    """Raise ValueError if a variant's MACs are too far from the base's to be called equal."""
    if abs(variant.residual) > MATCH_TOLERANCE:
        other = "" if variant.role == "budget" else " or match 'width'"
        raise ValueError(
            f"match 'cost': {variant.label} comes only within {100 * variant.residual:+.1f} % of the "
            f"base's MACs (at most {100 * MATCH_TOLERANCE:.0f} %); choose another growth_rate{other}"
        )


@dataclass(frozen=True)
class Grid:
    """The variants that a study's settings ask for, on data of this summary."""

    config: StudyConfig
    data: DatasetSummary

    @property
    def is_path(self) -> bool:
        """Whether the variants are steps, each compared with the one before, and the last one is the base."""
        return self.config.study == "path"

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """The grid, the dense controls and the leading axis at further sizes, each network once."""
        unique: dict[Any, Variant] = {}
        for variant in self._all_variants():
            unique.setdefault((variant.model, variant.recipe, variant.first_seed, variant.masks), variant)
        return tuple(unique.values())

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The points of the grid: every combination of levels that can be trained."""
        if self._listed:
            base = {axis: getattr(self.config, axis)[0] for axis in AXES}
            return tuple(base | cell for cell in self._listed.values())
        crossed = product(*(getattr(self.config, axis) for axis in AXES))
        cells = [dict(zip(AXES, levels, strict=True)) for levels in crossed]
        found = [c for c in cells if c["grouping"] not in SINGLE_WEIGHTS or c["criterion"] in WEIGHT_CRITERIA]
        if not found:
            raise ValueError(f"criterion {self.config.criterion}: grouping 'unstructured' needs l1 or random")
        return tuple(found)

    @property
    def _listed(self) -> dict[str, Cell]:
        """What its cells change by name, if a study lists them instead of crossing its axes."""
        return {"path": PATH, "masks": MASKS}.get(self.config.study, {})

    @property
    def base_cell(self) -> Cell:
        """The cell that all others are matched to."""
        return self.cells[-1 if self.is_path else 0]

    @cached_property
    def curves(self) -> dict[str, Cell]:
        """The cells that differ from the base in the leading axis alone, by the name of their curve."""
        if self._listed:
            return dict(zip(self._listed, self.cells, strict=True))
        axis, base = next(iter(self.config.varied), "grouping"), self.base_cell
        curves = {
            level_name(axis, cell[axis]): cell for cell in self.cells if cell == base | {axis: cell[axis]}
        }
        return curves | ({"none": self._dense} if self.config.reference or self.config.dense_equal else {})

    @property
    def _dense(self) -> Cell:
        """The base without groups: the cell of the dense controls."""
        return self.base_cell | {"grouping": "none"}

    def check_match(self) -> None:
        """Raise ValueError if a variant cannot be matched to the base's cost closely enough."""
        if self.config.match == "width":
            return
        for variant in self.variants:
            matched = self._is_matched(variant.model.grouping, variant.role)
            if matched:
                check_residual(variant)

    def _all_variants(self) -> Iterator[Variant]:
        size = self.config.growth_rate
        for cell in self.cells:
            variant = self._variant(cell, size, "base" if cell == self.base_cell else "grid")
            yield from self._twice(variant) if self.config.study == "same" else [variant]
        if self.config.reference:
            yield self._variant(self._dense, size, "reference")
        if self.config.dense_equal:
            yield self._variant(self._dense, size, "dense-equal")
        for size in self.config.sizes:
            for cell in self.curves.values():
                if self.config.reference or cell != self._dense:
                    yield self._variant(cell, size, "size")

    def _twice(self, base: Variant) -> Iterator[Variant]:
        """Yield the base under two names, each with seeds of its own."""
        for name, role, first in (("first", "base", 0), ("second", "same", self.config.seeds)):
            yield replace(base, label=f"{base.label} {name}", role=role, curve=name, first_seed=first)

    def _variant(self, cell: Cell, size: int, role: str) -> Variant:
        model = self._model(cell, size)
        target = cost_table(self._model(self.base_cell, size)).macs
        is_solved = self.is_path or self._is_matched(cell["grouping"], role)
        if self.config.match == "cost" and cell != self.base_cell and is_solved:
            model = match_cost(model, target)
        if role == "dense-equal":
            model = match_blocks(model, target)
        curve = next((name for name, other in self.curves.items() if other == cell), None)
        residual, masks = cost_table(model).macs / target - 1, cell.get("masks", "")
        label = f"{masks}-k{model.growth[0]}" if masks else self._label(model, cell)
        return Variant(model, self._recipe(cell), role, size, residual, label, curve, masks=masks)

    def _is_matched(self, grouping: str, role: str) -> bool:
        """Return whether a variant must cost what the base does: a dense one only as a step of the path."""
        return role == "grid" and (self.is_path or grouping != "none")

    def _model(self, cell: Cell, size: int) -> ModelConfig:
        axes = cell | ({"groups": 1, "condense_factor": 1} if cell["grouping"] == "none" else {})
        if cell["grouping"] in SINGLE_WEIGHTS:
            axes = axes | {"groups": self.config.groups[0]}  # it has no groups: all levels are the same network
        data = {"num_classes": self.data.num_classes, "image_size": self.data.image_size}
        rates = growth_rates(cell["growth"], size, len(self.config.stages))
        return part_of(ModelConfig, vars(self.config) | axes | data | {"growth": rates})

    def _recipe(self, cell: Cell) -> RecipeConfig:
        axes = cell
        if cell["grouping"] not in LEARNED:  # never pruned, so the pruning axes change nothing: train it once
            lasso = self.config.group_lasso[0]
            axes = cell | {"pruning": "condensing", "criterion": "l1", "group_lasso": lasso}
        if axes["pruning"] not in RETRAINING:
            axes = axes | {"retraining_rate": None}
        return part_of(RecipeConfig, vars(self.config) | axes)

    def _label(self, model: ModelConfig, cell: Cell) -> str:
        """Return the model's label, followed by the levels of the varied axes that it does not name."""
        varied = [axis for axis in self.config.varied if axis not in IN_MODEL_LABEL]
        if cell["grouping"] not in LEARNED:
            varied = [axis for axis in varied if axis not in ("pruning", "criterion")]
        return " ".join([model.label, *(level_name(axis, cell[axis]) for axis in varied)])
