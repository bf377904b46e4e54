"""The groupings, criteria and data sets that a configuration can name, one table each, without loading torch.

An entry has a one-line explanation, its properties, and the function that does it. Valid values, help texts,
checks and `docs/choices.md` follow from the tables. `TABLE.add` registers an entry for this process
(CONTRIBUTING.md).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
