"""Any network as a program of `torch.export` or as an ONNX file, for batches of any size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_map

from ..outputs import Arguments, tensors_of


def batch_of(arguments: Arguments) -> int:
    """Return how many images an example has."""
    first = tensors_of(arguments)[0]
    return len(first) if first.dim() else 1


def first_of(values: Any, batch: int) -> Any:
    """Return the first image of a batch, or what a network gives for it, however nested."""
    return tree_map(lambda leaf: leaf[:1] if _is_batched(leaf, batch) else leaf, values)


def torch_program(model: nn.Module, arguments: Arguments) -> ExportedProgram:
    """Export for batches of any size."""
    return torch.export.export(model, _of_two(arguments), dynamic_shapes=_any_batch(arguments))


def onnx_file(model: nn.Module, arguments: Arguments) -> bytes:
    """Return an ONNX file for batches of any size; its outputs are the model's tensors, in order."""
    with_axes: Any = {"dynamic_shapes": (_any_batch(arguments),)}
    names = ["images", *(f"input{place}" for place in range(1, len(tensors_of(arguments))))]
    program = torch.onnx.export(
        _Flat(model), _of_two(arguments), dynamo=True, verbose=False, input_names=names, **with_axes
    )
    assert program is not None
    return program.model_proto.SerializeToString()  # `save` would put the weights beside it


class _Flat(nn.Module):
    """Gives the tensors of a model's nested outputs."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *arguments: Any) -> tuple[Tensor, ...]:
        return tuple(tensors_of(self.model(*arguments)))


def _of_two(arguments: Arguments) -> Arguments:
    """Return the first image twice: exporters would take a batch of one image for a fixed size."""
    batch = batch_of(arguments)
    return tree_map(lambda leaf: torch.cat([leaf[:1]] * 2) if _is_batched(leaf, batch) else leaf, arguments)


def _any_batch(arguments: Arguments) -> Arguments:
    axes, batch = {0: torch.export.Dim("batch")}, batch_of(arguments)
    return tree_map(lambda leaf: axes if _is_batched(leaf, batch) else None, arguments)


def _is_batched(leaf: Any, batch: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0 and len(leaf) == batch
