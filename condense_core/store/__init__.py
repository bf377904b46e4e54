"""The run store: one folder per run, in plain formats, in which a crash loses nothing that was finished.

`RunStore` finds runs, studies and benchmarks. `Run` reads one run and writes nothing; the process that holds
it (`Run.hold`) gets a `RunWriter`, the only way to write one. `check_run` checks its files,
`find_damages` those of several runs, which must also agree with each other. `pack` makes a small archive of
what reports read.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
