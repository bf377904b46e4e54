"""A training step of a whole network as a program: a list of kernel calls on kept arrays (see ../README.md)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
