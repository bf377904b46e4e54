"""The importance of every connection after an epoch, as a row of importance.jsonl.

A row has the shape of every layer, (groups, in_channels), and the numbers of all layers in this order: float16,
zlib, base64.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

NAME = "importance.jsonl"
MOST = 1 << 26  # connections of a network


@dataclass(frozen=True)
class EpochImportance:
    """Σ|W| of every connection after an epoch by layer: float16 (groups, in_channels), 0 if it is pruned."""

    epoch: int
    layers: dict[str, np.ndarray]


def packed(epoch: int, importances: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the row of an epoch."""
    import torch

    halves = torch.cat([tensor.detach().cpu().to(torch.float16).flatten() for tensor in importances.values()])
    return {
        "epoch": epoch,
        "layers": {name: list(tensor.shape) for name, tensor in importances.items()},
        "data": base64.b64encode(zlib.compress(halves.numpy().astype("<f2").tobytes())).decode(),
    }


def unpacked(row: Mapping[str, Any], where: str) -> EpochImportance:
    """Return what a row says. Raise ValueError, naming `where`, if its data are not those of its layers."""
    import numpy as np

    sizes = [math.prod(shape) for shape in row["layers"].values()]
    if not 0 < sum(sizes) <= MOST:
        raise ValueError(f"{where}: layers: must have 1 to {MOST:,} connections, but have {sum(sizes):,}")
    halves = np.frombuffer(_inflated(row["data"], 2 * sum(sizes), where), "<f2")
    parts = np.split(halves, np.cumsum(sizes)[:-1])
    shaped = zip(row["layers"].items(), parts, strict=True)
    return EpochImportance(row["epoch"], {name: part.reshape(shape) for (name, shape), part in shaped})


def _inflated(data: str, size: int, where: str) -> bytes:
    try:
        inflate = zlib.decompressobj()
        content = inflate.decompress(base64.b64decode(data, validate=True), size + 1)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{where}: data: cannot be unpacked ({error})") from error
    if len(content) != size or not inflate.eof:
        raise ValueError(f"{where}: data: must have {size:,} bytes, two for each connection")
    return content


def unpacked_rows(rows: Iterable[Mapping[str, Any]], path: Path) -> list[EpochImportance]:
    """Return what the rows of a file say. Raise ValueError, naming file and line, if one is damaged."""
    found: list[EpochImportance] = []
    for line, row in enumerate(rows, start=1):
        found.append(unpacked(row, f"{path}, line {line}"))
        if line > 1 and found[-1].epoch <= found[-2].epoch:
            raise ValueError(f"{path}, line {line}: epoch {row['epoch']}: must be after {found[-2].epoch}")
    return found
