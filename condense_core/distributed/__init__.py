"""One run on many processes, the ranks: joining them, sharing batches and gradients, and reporting faults.

Without other ranks all of this does nothing, so that training need not ask whether there are any.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
