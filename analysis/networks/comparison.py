"""Published networks next to our own counts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from condense_core import ModelConfig

    from .published import Published


def published_rows(name: str) -> list[Published]:
    """What is printed about a model."""
    from .published import PUBLISHED

    return [row for row in PUBLISHED if row.model == name]


def compare_published() -> list[dict[str, Any]]:
    """Compare every preset and baseline with its printed figures; for CIFAR-100, with 100 classes."""
    import torch

    from condense_core.looking import same_draws
    from condense_core.presets import PRESETS

    from .peers import BASELINES

    rows = []
    for name, preset in PRESETS.items():
        for published in published_rows(name):
            classes = 100 if published.data == "CIFAR-100" else preset.num_classes
            rows.append(_compare(name, dataclasses.replace(preset, num_classes=classes), published))
            if preset.num_classes == 1000:
                pruned = dataclasses.replace(preset, classifier_pruning=True)
                rows.append(_compare(f"{name}, classifier pruned", pruned, published))
    for name, baseline in BASELINES.items():
        with torch.device("meta"), same_draws():  # shapes are enough
            model = baseline.build()
        rows += [_compare(name, model, published, baseline.image_size) for published in published_rows(name)]
    return rows


def _compare(
    name: str, network: ModelConfig | nn.Module, published: Published, image_size: int | None = None
) -> dict[str, Any]:
    from condense_core import ModelConfig, cost_table

    table = cost_table(network, image_size=image_size)
    flops = table.flops_paper if isinstance(network, ModelConfig) else table.macs
    return {
        "name": name,
        "flops_paper": table.flops_paper,
        "macs": table.macs,
        "params": table.params,
        "flops_agree": agreement(flops / 1e6, published.flops),
        "params_agree": agreement(table.params / 1e6, published.params),
        "published": dataclasses.asdict(published),
    }


def agreement(figure: float, printed: float | None) -> str:
    """Return 'yes' if a figure rounds to the printed one, else the difference in percent; '–' without one."""
    if printed is None:
        return "–"
    text = f"{printed:g}"
    digits = len(text.partition(".")[2])
    return "yes" if round(figure, digits) == printed else f"{100 * (figure / printed - 1):+.1f} %"
