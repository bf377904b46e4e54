from .ranks import (
    Ranks as Ranks,
    add_up as add_up,
    any_rank as any_rank,
    from_first_rank as from_first_rank,
    is_lost_rank as is_lost_rank,
    is_shared_fault as is_shared_fault,
    join as join,
    of_first_rank as of_first_rank,
    parallel as parallel,
    shard as shard,
    world_size as world_size,
)
from .shares import Shares as Shares, check_ranks as check_ranks
