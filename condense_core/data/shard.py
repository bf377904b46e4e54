"""The part of each batch that a rank trains on; it knows nothing of torch or of how ranks communicate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """The number of a rank, from 0, and how many ranks there are."""

    rank: int = 0
    ranks: int = 1

    def batch_slice(self, count: int) -> slice:
        """Return this rank's part of a batch of `count` images; it is empty for some if `count < ranks`."""
        return slice(count * self.rank // self.ranks, count * (self.rank + 1) // self.ranks)


ALONE = Shard()
