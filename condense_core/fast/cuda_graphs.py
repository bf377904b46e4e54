"""Training steps as CUDA graphs: all kernels of a step, hundreds of small ones, are launched at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from condense_core.config import RunConfig

Step = Callable[[Tensor, Tensor], Tensor]


def steps_as_graph(config: RunConfig) -> bool:
    """Return whether training steps can be CUDA graphs: not with dropout, which draws again in each."""
    return config.execution == "fast" and config.device == "cuda" and not config.model.dropout


class GraphedStep:
    """A step that is computed as written for the first batch of each size, then captured, then replayed.

    All that changes between steps must be in tensors that keep their place. The next step overwrites the
    result.
    """

    def __init__(self, step: Step):
        self._step = step
        self._warm: set[int] = set()
        self._graphs: dict[int, tuple[Callable[[], object], Tensor, tuple[Tensor, Tensor]]] = {}

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Train on images (N, 3, H, W) and labels (N,)."""
        size = len(labels)
        if size not in self._warm:  # libraries choose and allocate: not allowed while a graph is captured
            self._warm.add(size)
            return on_side_stream(lambda: self._step(images, labels))
        if size not in self._graphs:
            inputs = torch.empty_like(images), torch.empty_like(labels)
            self._graphs[size] = *capture(lambda: self._step(*inputs)), inputs
        replay, result, inputs = self._graphs[size]
        inputs[0].copy_(images)
        inputs[1].copy_(labels)
        replay()
        return result


def on_side_stream(step: Callable[[], Tensor]) -> Tensor:
    """Compute a step in another stream, as a capture does: gradients stay in the stream of their first use."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = step()
    torch.cuda.current_stream().wait_stream(stream)
    return result


def capture(step: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    """Return a function that replays a step, which is not computed yet, and the tensor of its result."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()
    return graph.replay, result
