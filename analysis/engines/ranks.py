"""The ranks that `torchrun` started, as the environment describes them."""

from __future__ import annotations

import os


def launched_ranks() -> int:
    """Return how many processes `torchrun` started to train each run together: 1 without it."""
    launched = {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys()
    return int(os.environ["WORLD_SIZE"]) if launched else 1


def is_first_rank() -> bool:
    """Return whether this process is the one of them that writes and prints."""
    return launched_ranks() == 1 or os.environ["RANK"] == "0"
