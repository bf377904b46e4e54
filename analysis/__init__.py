"""The workbench: studies, frames, statistics, figures and reports on top of `condense_core`.

`analysis.frames`, `analysis.plots`, `analysis.stats`, `analysis.Study`, `analysis.train_fork`,
`analysis.track` and `analysis.explore` come with `import analysis`; each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
