"""The fast execution: the numbers of the reference up to rounding, by kernels of our own (see README.md here).

`use(model)` gives the blocks of a network their engines. Nothing is compiled, and numba is not imported, before
that.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
