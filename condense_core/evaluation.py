"""How a network is evaluated: in evaluation mode, by its loss and its top-1 and top-5 error over batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .looking import evaluating

See = Callable[[Tensor, Tensor], object]


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy and errors in percent over a split; top-5 only if there are more classes."""

    loss: float
    error_percent: float
    top5_error_percent: float | None


def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    add_up: Callable[[Tensor], object] = lambda sums: None,
    see: See = lambda logits, labels: None,
    compute: Callable[[Tensor], Tensor] | None = None,
) -> Evaluation:
    """Return loss and errors of `model` in evaluation mode over batches of images and labels.

    If the batches are a rank's share, `add_up` adds the sums of all ranks in place. `see` gets the logits and
    labels of each batch. `compute` computes what `model` would, in whatever mode that is.
    """
    sums, classes = torch.zeros(4, dtype=torch.float64), 0
    with torch.no_grad() if compute else evaluating(model):
        for images, labels in batches:
            logits = (compute or model)(images)
            classes = logits.shape[1]
            sums += _sums(logits, labels)
            see(logits, labels)
    add_up(sums)
    loss, error, top5 = (sums[:3] / sums[3]).tolist()
    return Evaluation(loss, 100 * error, 100 * top5 if classes > 5 else None)


def answers(logits: Tensor, labels: Tensor) -> Tensor:
    """Return predicted class, right class and the probability of the right one: float64 (N, 3), on the CPU."""
    probability = logits.float().softmax(1).gather(1, labels[:, None])
    return torch.cat([logits.topk(1).indices, labels[:, None], probability], 1).double().cpu()


def outcomes(split: str, places: Tensor, answers: Tensor) -> dict[str, Tensor]:
    """Name and pack the `answers` on a split's images (N, 3), whose places in the data are int64 (N,)."""
    predicted, label, probability = answers.unbind(1)
    whole = {"image": places, "predicted": predicted, "label": label}
    packed = {name: values.to(torch.int32) for name, values in whole.items()}
    packed["probability"] = probability.to(torch.float16)
    return {f"{split}.{name}": values for name, values in packed.items()}


def _sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum losses, top-1 and top-5 errors and images of a batch: (4,)."""
    loss = F.cross_entropy(logits, labels, reduction="sum")
    missed = [~_hits(logits, labels, k) for k in (1, min(5, logits.shape[1]))]
    count = torch.full_like(loss, len(labels))
    return torch.stack([loss, *(miss.sum() for miss in missed), count]).double().cpu()


def _hits(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Return whether the label is among the k largest logits: bool (N,)."""
    return (logits.topk(k).indices == labels[:, None]).any(1)
