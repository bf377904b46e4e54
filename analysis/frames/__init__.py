"""The run store as tidy pandas frames, one function per frame.

`COLUMNS` describes each column, and `TYPES` has its type, which is the same in every frame of that name.
Every function takes a run store (its folder or a RunStore), a run, or a list of runs.
"""

from .agreement import agreement, decided
from .columns import COLUMNS, TYPES, typed
from .costs import FAMILIES, factors, layer_costs, layers, parts, published, times
from .moments import Moment, moments
from .outcomes import answers, outcomes
from .pruning import Fates, channels, connections, fates
from .ranks import LayerRanks, layer_ranks, ranks, ranks_of
from .regret import regret
from .sensitivity import allowed_shares, rises, sensitivity, statistics
from .sources import ReadingLayer, reading_layers
from .training import OWN, Source, epochs, runs, runs_in, stage_name, stages, steps, study_runs, variant_columns

__all__ = [
    "COLUMNS",
    "FAMILIES",
    "OWN",
    "TYPES",
    "Fates",
    "LayerRanks",
    "Moment",
    "ReadingLayer",
    "Source",
    "agreement",
    "allowed_shares",
    "answers",
    "channels",
    "connections",
    "decided",
    "epochs",
    "factors",
    "fates",
    "layer_costs",
    "layer_ranks",
    "layers",
    "moments",
    "outcomes",
    "parts",
    "published",
    "ranks",
    "ranks_of",
    "reading_layers",
    "regret",
    "rises",
    "runs",
    "runs_in",
    "sensitivity",
    "stage_name",
    "stages",
    "statistics",
    "steps",
    "study_runs",
    "times",
    "typed",
    "variant_columns",
]
