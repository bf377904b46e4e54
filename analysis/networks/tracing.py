"""Count what a network executes: one image runs through it, and fvcore and torch count."""

from __future__ import annotations

import warnings
from collections import Counter

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from condense_core.condensation import prune_to_stage
from condense_core.config import ModelConfig
from condense_core.cost import cost_table
from condense_core.deploy import condense
from condense_core.looking import blank_image, evaluating
from condense_core.model import CondenseNet

from .conventions import Conventions, Count


def count_conventions(
    network: ModelConfig | nn.Module, stage: int | None = None, image_size: int | None = None
) -> Conventions:
    """Count a live network as its masks are, or a configuration in `stage` (default: the last one).

    Raises ValueError as `cost_table` does, for example if the image size of a foreign network is not given.
    """
    table = cost_table(network, stage, image_size)
    model = pruned_to(network, stage) if isinstance(network, ModelConfig) else network
    size = model.config.image_size if isinstance(model, CondenseNet) else image_size
    assert size is not None  # cost_table asks for it
    try:
        small = condense(model, execution="reference") if isinstance(model, CondenseNet) else None
    except ValueError:  # single weights were pruned
        small = None
    return Conventions(table, count(model, size), count(small, size) if small else None)


def pruned_to(config: ModelConfig, stage: int | None = None) -> CondenseNet:
    """An untrained network with the masks of a stage (default: the last one)."""
    model, last = CondenseNet(config, seed=0), config.last_stage
    prune_to_stage(model, last if stage is None else stage, last)
    return model


def count(model: nn.Module, image_size: int) -> Count:
    """Run one image through `model` and let fvcore and torch count."""
    image = blank_image(model, image_size)
    with evaluating(model):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.jit, which fvcore uses, and of its tracer
            from fvcore.nn import FlopCountAnalysis

            analysis = FlopCountAnalysis(model, image)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            operators, uncounted = analysis.by_operator(), analysis.unsupported_ops()
        with FlopCounterMode(display=False) as counter:
            model(image)
    return Count(_plain(operators), _plain(uncounted), counter.get_total_flops())


def _plain(counter: Counter[str]) -> dict[str, int]:
    return {name: int(number) for name, number in sorted(counter.items())}
