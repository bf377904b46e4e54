"""Random streams of a run: each purpose draws from a generator of its own, a pure function of the seed.

Nothing but the seed and the step has to be kept to resume a run, and the variants of one seed see the
same batches, which makes pairing by seed honest.
"""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, stream: str, index: int = 0) -> int:
    """A 63-bit seed for one purpose (`stream`) and one moment (`index`) of a run."""
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, stream: str, index: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator for one purpose and one moment of a run, on `device`."""
    return torch.Generator(device=device).manual_seed(derived_seed(seed, stream, index))
