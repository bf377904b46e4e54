"""Training steps on a GPU as CUDA graphs: a step of hundreds of small kernels is launched at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from condense_core.config import RunConfig

Step = Callable[[Tensor, Tensor], Tensor]


def steps_as_graph(config: RunConfig) -> bool:
    """Whether a run's steps can be graphs: dropout is drawn anew in every step, which a graph cannot."""
    return config.execution == "fast" and config.device == "cuda" and not config.model.dropout


class GraphedStep:
    """A step that is computed once as it is written for each size of batch, then captured, then replayed.

    All that changes between steps must be in tensors that stay where they are. What is returned is
    overwritten by the next step.
    """

    def __init__(self, step: Step):
        self._step = step
        self._warm: set[int] = set()
        self._graphs: dict[int, tuple[Callable[[], object], Tensor, tuple[Tensor, Tensor]]] = {}

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Train on images (N, 3, H, W) and labels (N,)."""
        size = len(labels)
        if size not in self._warm:  # libraries choose and allocate what they may not while a graph is captured
            self._warm.add(size)
            return beside(lambda: self._step(images, labels))
        if size not in self._graphs:
            own = torch.empty_like(images), torch.empty_like(labels)
            self._graphs[size] = *capture(lambda: self._step(*own)), own
        replay, result, own = self._graphs[size]
        own[0].copy_(images)
        own[1].copy_(labels)
        replay()
        return result


def beside(step: Callable[[], Tensor]) -> Tensor:
    """Compute in another stream, as a capture does: gradients are tied to the stream of their first use."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = step()
    torch.cuda.current_stream().wait_stream(stream)
    return result


def capture(step: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    """What replays a step, without having computed it yet, and where its result will be."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()
    return graph.replay, result
