"""The run store as tidy pandas frames, one function per frame; `COLUMNS` describes each column.

Every function takes a run store (its folder or a RunStore), a run, or a list of runs.
"""

from .columns import COLUMNS
from .costs import FAMILIES, layer_costs, layers, parts, published, times
from .outcomes import outcomes
from .pruning import channels, connections, deaths
from .sources import ReadingLayer, reading_layers
from .training import Source, epochs, runs, runs_in, stage_name, stages, steps, study_runs, variant_columns

__all__ = [
    "COLUMNS",
    "FAMILIES",
    "ReadingLayer",
    "Source",
    "channels",
    "connections",
    "deaths",
    "epochs",
    "layer_costs",
    "layers",
    "outcomes",
    "parts",
    "published",
    "reading_layers",
    "runs",
    "runs_in",
    "stage_name",
    "stages",
    "steps",
    "study_runs",
    "times",
    "variant_columns",
]
