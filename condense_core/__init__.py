"""Condense: CondenseNets and their ablations, trained, condensed and costed.

Names are imported when they are first used, so that a command line answers without loading torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
