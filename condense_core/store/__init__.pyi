from . import schemas as schemas
from .integrity import check_run as check_run, find_damage as find_damage, find_damages as find_damages
from .locks import RunHeld as RunHeld
from .provenance import changes as changes, environment as environment
from .run import FINISHED as FINISHED, Run as Run
from .schemas import runs_of as runs_of, skip_damaged as skip_damaged
from .store import RunStore as RunStore
from .writer import Changed as Changed, RunWriter as RunWriter, record_failure as record_failure
