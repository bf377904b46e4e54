from .ranks import (
    Ranks as Ranks,
    add_up as add_up,
    any_rank as any_rank,
    from_first_rank as from_first_rank,
    in_step as in_step,
    is_silence as is_silence,
    join as join,
    joined as joined,
    of_first_rank as of_first_rank,
    parallel as parallel,
    shard as shard,
    world_size as world_size,
)
