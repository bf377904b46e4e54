from .cores import allowed_cores as allowed_cores, usable_cores as usable_cores
from .hardware import processor as processor
from .signal_stack import keeping_signal_stack as keeping_signal_stack, signal_stack as signal_stack
from .threads import read_ahead as read_ahead
