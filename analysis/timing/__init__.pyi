from .measure import measure_networks as measure_networks, subject_named as subject_named
from .runtimes import EXECUTIONS as EXECUTIONS, Execution as Execution
