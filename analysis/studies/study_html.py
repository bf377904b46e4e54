"""A study as a notebook shows it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from condense_core.cost import cost_table

from .named import NAMED_STUDIES

if TYPE_CHECKING:
    from .study import Study

COLUMNS = ("variant", "role", "k0", "MACs", "vs. base", "parameters")


def study_html(study: Study) -> str:
    """Return the question, the data, and a table of the variants with their cost."""
    config, data = study.config, study.data
    question = f"{config.name}: {NAMED_STUDIES[config.study].question}"
    size = (
        f"{config.data} ({data.train_images:,} training and {data.test_images:,} test images), "
        f"{config.epochs} epochs, {config.seeds} seeds: {_counted(study)}"
    )
    head = "".join(f"<th>{escape(text)}</th>" for text in COLUMNS)
    rows = "".join(_row_html(row) for row in _rows(study))
    return f"<p><b>{escape(question)}</b><br>{escape(size)}</p><table><tr>{head}</tr>{rows}</table>"


def _counted(study: Study) -> str:
    tuning = sum(run.role == "tuning" for run in study.planned())
    text = f"{len(study.planned()) - tuning} runs"
    return f"{text}, after {tuning} that tune their settings" if tuning else text


def _row_html(row: tuple[str, ...]) -> str:
    label, *others = map(escape, row)
    return f'<tr><td style="text-align: left">{label}</td><td>{"</td><td>".join(others)}</td></tr>'


def _rows(study: Study) -> Iterator[tuple[str, ...]]:
    base = cost_table(study.base.model).macs
    for variant in study.variants:
        cost, k0 = cost_table(variant.model), variant.model.growth[0]
        excess = f"{100 * (cost.macs / base - 1):+.1f} %" if variant != study.base else "–"
        yield variant.label, variant.role, str(k0), f"{cost.macs:,}", excess, f"{cost.params:,}"
