"""The HTML report of studies: findings in words, tables, figures and every run, in one file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
