"""Work done in a forked process."""

from __future__ import annotations

import os


def in_a_process(work) -> int:
    """Do `work` in a forked process; return the signal that ended it, or 0."""
    if not (child := os.fork()):
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
