"""A run as HTML, as notebooks show it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from condense_core.validation import to_dict

if TYPE_CHECKING:
    from .run import Run

LEFT = 'style="text-align: left"'


def run_html(run: Run) -> str:
    """Return a run's state, its settings, and its figures as far as there are any."""
    status = run.status
    state = f"{status['state']}: {status['reason']}" if status.get("reason") else status["state"]
    title = f"<p><b>{escape(run.name)}</b> ({escape(state)})</p>"
    if not run.started:
        return f"{title}<p>It has not started.</p>"
    rows = _figures(run, run.planned_epochs) | _described(run)
    cells = (f"<tr><th {LEFT}>{name}</th><td {LEFT}>{escape(text)}</td></tr>" for name, text in rows.items())
    return f"{title}<table>{''.join(cells)}</table>"


def _described(run: Run) -> dict[str, str]:
    """What made a run, as texts."""
    if run.is_tracked:
        own = to_dict(run.tracked)
        layers, settings = own.pop("layers"), own.pop("settings")
        counted = f"{len(layers)} layers learn groups"
        return {"network": f"{own.pop('network')}; {counted}", "loop": _settings(own | settings)}
    parts = {"model": run.config.model, "recipe": run.config.recipe, "data": run.config.data}
    return {name: _settings(to_dict(part)) for name, part in parts.items()}


def _figures(run: Run, planned: int) -> dict[str, str]:
    """A run's progress, the cost of its network by now, and its error, as texts."""
    stages, result = run.stages(), run.result
    names = ["end" if record["stage"] is None else str(record["stage"]) for record in stages]
    rows = {"epochs": f"{len(run.epochs())} of {planned}", "stages": ", ".join(names) or "none yet"}
    if stages:
        macs, flops, params = (stages[-1][name] for name in ("macs", "flops_paper", "params"))
        rows["cost"] = f"{macs:,} MACs ({flops:,} FLOPs as the paper counts), {params:,} parameters"
    if result.get("test_error_percent") is not None:
        rows["error"] = f"{result['test_error_percent']:.2f} % of {result['test_images']} test images"
    return rows


def _settings(config: Mapping[str, Any]) -> str:
    """The settings of a configuration as one text, without those that are not set."""
    values = {name: value for name, value in config.items() if value is not None}
    texts = ((name, ", ".join(map(str, v)) if isinstance(v, list) else v) for name, v in values.items())
    return "; ".join(f"{name} {text}" for name, text in texts)
