"""What a rank takes of a run's batches and images, and what its part counts for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from condense_core.config import RunConfig
from condense_core.data import Images, Shard

from .ranks import add_up


def check_ranks(config: RunConfig, ranks: int) -> None:
    """Raise ValueError if a configuration cannot be trained by that many ranks."""
    if ranks > 1 and config.execution != "reference":
        raise ValueError(f"execution {config.execution!r}: a run on {ranks} ranks needs 'reference'")
    if config.recipe.batch_size < ranks:
        raise ValueError(f"batch_size {config.recipe.batch_size}: must be at least 1 for each of {ranks} ranks")


@dataclass(frozen=True)
class Shares:
    """A rank's share of a training whose epochs take batches of `batch_size` from `images` images."""

    shard: Shard
    images: int
    batch_size: int
    steps_per_epoch: int  # without a last batch of a single image

    def whole_batch(self, part: int, step: int) -> int:
        """Return how many images the batch of a step has on all ranks, when this rank has `part` of them."""
        if self.shard.ranks == 1:
            return part
        return min(self.batch_size, self.images - step % self.steps_per_epoch * self.batch_size)

    def loss(self, logits: Tensor, labels: Tensor, whole: int) -> Tensor:
        """Return the mean cross-entropy over a batch of `whole` images, or this rank's summand of it."""
        if self.shard.ranks == 1:
            return F.cross_entropy(logits, labels)
        return F.cross_entropy(logits, labels, reduction="sum") / whole

    def stream(self, name: str) -> str:
        """Return the name of this rank's random stream: every rank draws its own numbers."""
        return f"{name}/{self.shard.rank}" if self.shard.rank else name

    def evaluated(self, images: Images) -> Images:
        """Return those of `images` that this rank evaluates."""
        rank, ranks = self.shard.rank, self.shard.ranks
        return images if ranks == 1 else images.subset(torch.arange(rank, len(images), ranks))

    def of_all_ranks(self, rows: Tensor, images: int) -> Tensor:
        """Return the rows (images, K) of all ranks' images from this rank's: those that `evaluated` gave it."""
        if self.shard.ranks == 1:
            return rows
        whole = rows.new_zeros(images, rows.shape[1])
        whole[self.shard.rank :: self.shard.ranks] = rows
        return add_up(whole)
