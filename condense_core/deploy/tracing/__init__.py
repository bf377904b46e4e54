"""Condense any network: replace its masked layers, and where `torch.fx` can trace it, move and share indices.

`network` replaces and decides; `graph` traces; `kinds` says what a node does with channels; `reads` finds the
channels that are read (backwards), `rewrite` moves the indices and drops the others (forwards); `norms` folds.
`programs` exports; `sources` says which layer made each channel.
"""

from .graph import Place
from .network import Condensed, condense_module
from .programs import batch_of, first_of, onnx_file, torch_program
from .sources import channel_sources

__all__ = [
    "Condensed",
    "Place",
    "batch_of",
    "channel_sources",
    "condense_module",
    "first_of",
    "onnx_file",
    "torch_program",
]
