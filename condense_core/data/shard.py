"""The part of each batch that a rank trains on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """A rank and how many there are."""

    rank: int = 0
    ranks: int = 1

    def batch_slice(self, count: int) -> slice:
        """The rank's part of a batch of `count` images: none where there are fewer images than ranks."""
        return slice(count * self.rank // self.ranks, count * (self.rank + 1) // self.ranks)


ALONE = Shard()
