"""Learned groups in any network and any training loop: layers are replaced, then pruned in stages (Sec. 3)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
