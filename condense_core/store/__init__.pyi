from . import schemas as schemas
from .forks import (
    CHANGES as CHANGES,
    DECISIONS as DECISIONS,
    Changed as Changed,
    final_stage as final_stage,
    fork_config as fork_config,
    forked as forked,
    kept_state as kept_state,
    parent_of as parent_of,
    refuse_changed as refuse_changed,
    setting as setting,
)
from .integrity import check_run as check_run, find_damage as find_damage, find_damages as find_damages
from .locks import RunHeld as RunHeld
from .packed import Packed as Packed, pack as pack
from .provenance import changes as changes, environment as environment
from .run import FINISHED as FINISHED, Run as Run
from .schemas import by_layer as by_layer, runs_of as runs_of, skip_damaged as skip_damaged
from .store import RunStore as RunStore, is_store as is_store
from .tracked import TrackedConfig as TrackedConfig, TrackedLayer as TrackedLayer
from .tracked_study import join_study as join_study
from .writer import RunWriter as RunWriter, record_failure as record_failure
