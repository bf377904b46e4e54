from .conditions import can_run as can_run
from .cuda_graphs import GraphedStep as GraphedStep, Step as Step, steps_as_graph as steps_as_graph
from .engines import (
    available as available,
    execution_of as execution_of,
    programs as programs,
    use as use,
)
from .inference_block import layers_by_choice as layers_by_choice
from .kernels.compilation import KERNELS as KERNELS
