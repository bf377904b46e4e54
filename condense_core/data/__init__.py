"""Data sets: loading, splitting, decoding and augmenting images.

`load` reads a data set; `summarise` says how many classes and images it has, without torch. Images are held
decoded (`images`) or read from their files in every epoch (`streaming`); both give the same kind of batches.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
