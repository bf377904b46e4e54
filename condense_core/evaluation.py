"""How error is measured: loss, top-1 and top-5 error of a model over batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data import Batch
from .distributed import ranks


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy and errors in percent over a split; top-5 only where there are more classes."""

    loss: float
    error_percent: float
    top5_error_percent: float | None


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterator[Batch], of_all_ranks: bool = False) -> Evaluation:
    """Loss and errors of `model` in evaluation mode; its mode is kept.

    `of_all_ranks`: each rank has other batches, and all of them together are meant.
    """
    training = model.training
    model.eval()
    sums, classes = torch.zeros(4, dtype=torch.float64), 0
    for images, labels in batches:
        logits = model(images)
        classes = logits.shape[1]
        missed = [~_hits(logits, labels, k) for k in (1, min(5, classes))]
        loss = F.cross_entropy(logits, labels, reduction="sum")
        count = torch.full_like(loss, len(labels))
        sums += torch.stack([loss, *(miss.sum() for miss in missed), count]).double().cpu()
    model.train(training)
    if of_all_ranks:
        ranks.add_up(sums)
    loss_mean, error, top5 = (sums[:3] / sums[3]).tolist()
    return Evaluation(loss_mean, 100 * error, 100 * top5 if classes > 5 else None)


def _hits(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    return (logits.topk(k).indices == labels[:, None]).any(1)
