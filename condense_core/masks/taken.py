"""Masks of another run: as they are, or with the channels of every source layer drawn anew."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from condense_core.config import ModelConfig
from condense_core.randomness import generator
from condense_core.topology import layers


def shuffled(masks: Mapping[str, Tensor], model: ModelConfig, seed: int) -> dict[str, Tensor]:
    """Draw anew which channels of a source layer each group reads, of every source as many as before.

    `masks` are bool (groups, in_channels) by layer; so is the answer.
    """
    draws, found = generator(seed, "shuffling"), {}
    for layer in layers(model):  # in the network's order: a file has the masks in any
        if (mask := masks.get(layer.name)) is not None:
            parts = [_rows_shuffled(mask[:, each.start : each.stop], draws) for each in layer.sources]
            found[layer.name] = torch.cat(parts, dim=1)
    return found


def _rows_shuffled(mask: Tensor, draws: torch.Generator) -> Tensor:
    """Shuffle each row of a mask (groups, channels) by itself."""
    orders = [torch.randperm(mask.shape[1], generator=draws) for _ in mask]
    return torch.stack([row[order] for row, order in zip(mask, orders, strict=True)])


def fingerprint(masks: Mapping[str, Tensor]) -> str:
    """Return 16 hex digits of SHA-256 over the masks, by the names of their layers."""
    digest = hashlib.sha256()
    for name in sorted(masks):
        digest.update(f"{name} {list(masks[name].shape)}\n".encode())
        digest.update(masks[name].to(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
