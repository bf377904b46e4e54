from .cores import allowed_cores as allowed_cores, usable_cores as usable_cores
from .hardware import processor as processor
from .threads import read_ahead as read_ahead
