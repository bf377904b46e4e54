"""Run a network on an example and compare its outputs, however they are nested, with another's."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from condense_core.looking import evaluating

TOLERANCE = 1e-5  # of outputs in float32, relative to the largest
Arguments = tuple[Any, ...]


def relative_difference(outputs: Tensor, reference: Tensor) -> float:
    """Return the largest difference, max |Δ| / max |reference|; not finite if either tensor is not."""
    return ((outputs - reference).abs().max() / reference.abs().max().clamp(min=1e-30)).item()


def arguments_of(example: Any) -> Arguments:
    """Return an example as the arguments of a network: a tensor is the only one, a tuple lists them.

    Raises TypeError if it holds no tensor.
    """
    arguments = example if isinstance(example, tuple) else (example,)
    if not any(isinstance(leaf, Tensor) for leaf in tree_flatten(arguments)[0]):
        raise TypeError(
            f"example {example!r}: must be a tensor or a tuple of arguments, with at least one tensor"
        )
    return arguments


def check_reads(model: nn.Module, arguments: Arguments) -> Any:
    """Return what the model gives for an example. Raise ValueError if it cannot read it."""
    try:
        return run(model, arguments)
    except Exception as error:
        shapes = ", ".join(map(_described, arguments))
        name = type(model).__name__
        raise ValueError(f"example ({shapes}): the {name} cannot read it: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or its kind if it says nothing."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} on {value.device}"


def run(model: nn.Module, arguments: Arguments) -> Any:
    """Return the outputs in evaluation mode, without gradients; nothing of the model or the example changes.

    Products have the precision of their type: what TF32 rounds on a GPU would be the larger difference.
    """
    with evaluating(model):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        return model(*tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, arguments))


def tensors_of(outputs: Any) -> list[Tensor]:
    """Return the tensors of nested outputs, in order."""
    return [leaf for leaf in tree_flatten(outputs)[0] if isinstance(leaf, Tensor)]


def difference(outputs: Any, reference: Any) -> float:
    """Return the largest relative difference of nested outputs; infinite if they differ in kind."""
    (own, own_form), (others, form) = tree_flatten(outputs), tree_flatten(reference)
    if own_form != form:
        return float("inf")
    return max(map(_leaf_difference, own, others), default=0.0)


def _leaf_difference(own: Any, reference: Any) -> float:
    if not isinstance(reference, Tensor):
        return 0.0 if own is reference or own == reference else float("inf")
    if not isinstance(own, Tensor) or (own.shape, own.dtype) != (reference.shape, reference.dtype):
        return float("inf")
    if not reference.is_floating_point():
        return 0.0 if own.equal(reference) else float("inf")
    found = relative_difference(own, reference) if own.numel() else 0.0
    return found if math.isfinite(found) else float("inf")


def are_equal(small: nn.Module, model: nn.Module, arguments: Arguments, reference: Any) -> bool:
    """Return whether a network gives the outputs of another, which are `reference`.

    Where they differ by more than the tolerance, both are run in float64: the difference may be rounding.
    """
    if difference(run(small, arguments), reference) <= TOLERANCE:
        return True
    try:
        own, other = (run(copy.deepcopy(network).double(), _double(arguments)) for network in (small, model))
    except Exception:  # it has types of its own inside
        return False
    return difference(own, other) <= TOLERANCE


def _double(arguments: Arguments) -> Arguments:
    def convert(leaf: Any) -> Any:
        return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    return tree_map(convert, arguments)
