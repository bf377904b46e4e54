from .devices import gpu_is_here as gpu_is_here, resolve_device as resolve_device
from .forks import train_fork as train_fork
from .launch import (
    Launch as Launch,
    Training as Training,
    all_finished as all_finished,
    connect as connect,
)
from .ranks import is_first_rank as is_first_rank
from .reasons import reason_of as reason_of
from .single_run import Outcome as Outcome, load_data as load_data
from .torchrun import settings_for_ranks as settings_for_ranks
