"""Work that its process does not survive, in a module that a worker loads at once: without torch."""

from __future__ import annotations

import os
import signal

from analysis.engines.single_run import execute


def deadly(config, store, data_dir, force):
    """Seed 0 is always killed, as the system does it for want of memory; seed 1 the first time."""
    mark = store.root / f"killed-{config.seed}"
    if config.seed == 0 or (config.seed == 1 and not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(config, store, data_dir, force=force)
