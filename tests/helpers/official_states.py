"""State dicts as the official code saves them, made from networks of ours, and hostile variants of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from condense_core import CondenseNet
from condense_core.deploy import output_order
from condense_core.grouping import MaskedConv, live_weights
from condense_core.official.tensors import official_parts
from helpers.mutations import Draws

State = dict[str, Any]


def official_state(model: CondenseNet, converted: bool = False) -> State:
    """Return the state dict that the official code would save for a network of ours with learned groups."""
    state: State = {}
    for name, part in official_parts(model).items():
        if not isinstance(part, MaskedConv):
            state |= {f"{name}.{kind}": tensor.clone() for kind, tensor in part.state_dict().items()}
        elif converted:
            state |= _converted(name, part, state)
        else:
            state |= _masked(name, part)
    return state


def _converted(name: str, part: MaskedConv, state: State) -> State:
    """Return the weights, index and batch norm of a layer that `convert_model` has condensed."""
    holder, index = name.removesuffix(".conv"), part.mask.nonzero()[:, 1]
    order = output_order(part)
    live = live_weights(part)[order].flatten(1)
    weight = part.weight.detach()[order].flatten(1)[live].view(part.out_channels, -1, 1, 1)
    kinds = ("weight", "bias", "running_mean", "running_var")
    norm = {f"{holder}.norm.{kind}": state[f"{holder}.norm.{kind}"][index] for kind in kinds}
    return {f"{name}.weight": weight, f"{holder}.index": index} | norm


def _masked(name: str, part: MaskedConv) -> State:
    """Return the weights, mask, count and stage of a layer in training."""
    holder, rows = name.removesuffix(".conv"), part.mask.float().repeat(part.out_channels // part.groups, 1)
    return {
        f"{name}.weight": part.weight.detach().clone(),
        f"{holder}._mask": rows[:, :, None, None],
        f"{holder}._count": torch.tensor([float((~part.mask[0]).sum())]),
        f"{holder}._stage": torch.tensor([float(part.condense_factor - 1)]),
    }


def changed_state(state: State, draws: Draws) -> State:
    """Replace, remove or rename one to three tensors of a state dict."""
    state = dict(state)
    for _ in range(draws.randint(1, 3)):
        name = draws.choice([name for name, tensor in state.items() if _is_small(tensor)])
        tensor, other = state[name], draws.choice(list(state.values()))
        match draws.randrange(5):
            case 0:
                del state[name]
            case 1:
                names = (f"module.{name}", f"{name}x", "", "\x1b[31m", name.replace("_1", "_9999"))
                state[draws.choice(names)] = state.pop(name)
            case _:
                with suppress(RuntimeError, IndexError, TypeError):  # not all changes suit all tensors
                    state[name] = draws.choice(_changes(tensor, other, draws))()
    return state


def _is_small(tensor: Any) -> bool:
    """Return whether a value is a tensor that can be changed again without using much memory."""
    return hasattr(tensor, "numel") and tensor.numel() < 10**6


def _changes(tensor: torch.Tensor, other: Any, draws: Draws) -> list[Callable[[], Any]]:
    return [
        lambda: tensor * float("nan"),
        tensor.double,
        tensor.half,
        lambda: tensor.to(torch.int64),
        tensor.bool,
        lambda: tensor.to(torch.complex64),
        lambda: tensor.flatten()[:0],
        lambda: tensor[None],
        tensor.flatten,
        lambda: tensor.mT if tensor.dim() > 1 else tensor.flatten().flip(0),
        lambda: tensor.flatten()[:1].expand(draws.choice((7, 10**6, 10**9, 10**15))),
        lambda: tensor.flatten()[:1].view(1, 1, 1, 1).expand(100_000, draws.choice((1, 10**5)), 1, 1),
        lambda: torch.zeros(draws.choice((0, 1, 3, 4096)), 1, 1, 1),
        lambda: tensor + draws.choice((1, -1, 10**9)),
        lambda: -tensor,
        lambda: tensor.to_sparse() if tensor.layout == torch.strided else tensor,
        lambda: torch.nn.Parameter(tensor) if tensor.is_floating_point() else tensor,
        lambda: other,
        lambda: draws.choice((None, 1, "x", [], {}, (1, (2,)), 1.5)),
    ]
