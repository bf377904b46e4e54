from .devices import gpu_is_here as gpu_is_here, resolve_device as resolve_device
from .launch import refuse_changed as refuse_changed, split_finished as split_finished
from .processes import (
    StopSwitch as StopSwitch,
    default_jobs as default_jobs,
    execute_all as execute_all,
    prepare_workers as prepare_workers,
    run_all as run_all,
)
from .progress import decoding as decoding, show as show
from .ray_cluster import Cluster as Cluster, chosen as chosen
from .single_run import Outcome as Outcome
