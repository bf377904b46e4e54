"""The run store as tidy pandas frames, one function per frame.

`COLUMNS` describes each column, and `TYPES` has its type, which is the same in every frame of that name.
Every function takes a run store (its folder or a RunStore), a run, or a list of runs.
"""

from .agreement import agreement, decided
from .columns import COLUMNS, TYPES, typed
from .costs import FAMILIES, layer_costs, layers, parts, published, times
from .outcomes import answers, outcomes
from .pruning import channels, connections, deaths
from .regret import regret
from .sources import ReadingLayer, reading_layers
from .training import Source, epochs, runs, runs_in, stage_name, stages, steps, study_runs, variant_columns

__all__ = [
    "COLUMNS",
    "FAMILIES",
    "TYPES",
    "ReadingLayer",
    "Source",
    "agreement",
    "answers",
    "channels",
    "connections",
    "deaths",
    "decided",
    "epochs",
    "layer_costs",
    "layers",
    "outcomes",
    "parts",
    "published",
    "reading_layers",
    "regret",
    "runs",
    "runs_in",
    "stage_name",
    "stages",
    "steps",
    "study_runs",
    "times",
    "typed",
    "variant_columns",
]
