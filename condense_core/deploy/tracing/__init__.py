"""Condense any network: replace its masked layers, and where `torch.fx` can trace it, move and share indices.

`network` replaces and decides; `graph` traces; `kinds` says what a node does with channels; `reads` finds the
channels that are read (backwards), `rewrite` moves the indices and drops the others (forwards); `norms` folds.
`programs` exports.
"""

from .graph import Place
from .network import Condensed, condense_module
from .programs import batch_of, first_of, onnx_file, torch_program

__all__ = ["Condensed", "Place", "batch_of", "condense_module", "first_of", "onnx_file", "torch_program"]
