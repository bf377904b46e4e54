"""Figures: each function takes tidy frames and returns a matplotlib Figure; none reads a file."""

from .agreement import agreement, decided
from .budget import budget
from .connections import layer_connections, pruned_connections, shares_by_distance, sources_read
from .cost import OPERATORS, PRUNED, cost_by_layer, cost_parts, place_name, time_against_macs, waterfall
from .effects import effects, interactions
from .masks import masks
from .ranks import ranks
from .regret import regret
from .sensitivity import sensitivity, stale_statistics
from .series import series
from .style import COLOURS, FAINT, GREY, count, heat, stage_title, thinned
from .tradeoff import equal_cost, published, tradeoff
from .training import macs_during_training, pruning_steps, run_life

__all__ = [
    "COLOURS",
    "FAINT",
    "GREY",
    "OPERATORS",
    "PRUNED",
    "agreement",
    "budget",
    "cost_by_layer",
    "cost_parts",
    "count",
    "decided",
    "effects",
    "equal_cost",
    "heat",
    "interactions",
    "layer_connections",
    "macs_during_training",
    "masks",
    "place_name",
    "pruned_connections",
    "pruning_steps",
    "published",
    "ranks",
    "regret",
    "run_life",
    "sensitivity",
    "series",
    "shares_by_distance",
    "sources_read",
    "stage_title",
    "stale_statistics",
    "thinned",
    "time_against_macs",
    "tradeoff",
    "waterfall",
]
