"""The run store: a folder a run, in plain formats, in which a crash loses nothing that was finished."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
