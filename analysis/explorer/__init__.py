"""Widgets that explore a run store in a notebook, also while its runs are being trained."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
