"""Which layers a 1×1 convolution reads, and which of its inputs are whose."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from condense_core.config import ModelConfig


class Target:
    """A 1×1 convolution: its mask's name, its label, and which of its inputs come from which source layer."""

    def __init__(
        self, mask: str, label: str, position: int, block: int, outputs: int, read: list[tuple[str, int]]
    ):
        self.mask, self.label, self.outputs = mask, label, outputs
        self.columns = {"target": label, "target_position": position, "block": block}
        ends = accumulate(width for _, width in read)
        self.sources = [(name, end - width, end) for (name, width), end in zip(read, ends, strict=True)]


def targets(model: ModelConfig) -> Iterator[Target]:
    """Every 1×1 convolution of a network in order, with the layers whose outputs it reads.

    Labels are block.layer ('2.3'), 'stem' and 't1' for the first transition's 1×1 convolution.
    """
    read, position = [("stem", 2 * model.growth[0])], 0
    for block, (layers, rate) in enumerate(zip(model.stages, model.growth, strict=True), start=1):
        if block > 1 and model.connectivity == "block":
            label = f"t{block - 1}"
            width = model.transition_channels(sum(width for _, width in read))
            yield Target(f"blocks.transition{block - 1}.conv", label, position, block - 1, width, list(read))
            read, position = [(label, width)], position + 1
        for layer in range(layers):
            label = f"{block}.{layer + 1}"
            outputs = model.bottleneck * rate
            yield Target(f"blocks.block{block}.{layer}.conv1", label, position, block, outputs, list(read))
            read.append((label, rate))
            position += 1
