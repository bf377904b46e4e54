"""Figures: each function takes tidy frames and returns a matplotlib Figure; none reads a file."""

from .connections import layer_connections, pruned_connections, sources_read
from .cost import cost_by_layer, time_against_macs, waterfall
from .effects import effects, interactions
from .style import count
from .tradeoff import equal_cost, published, tradeoff
from .training import macs_during_training, pruning_steps, run_life

__all__ = [
    "cost_by_layer",
    "count",
    "effects",
    "equal_cost",
    "interactions",
    "layer_connections",
    "macs_during_training",
    "pruned_connections",
    "pruning_steps",
    "published",
    "run_life",
    "sources_read",
    "time_against_macs",
    "tradeoff",
    "waterfall",
]
