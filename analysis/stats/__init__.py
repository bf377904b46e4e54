"""The statistics of a study: the seed is the unit; intervals cover seeds and test images, corrected together.

docs/statistics.md has the model, the formulas and their sources.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
