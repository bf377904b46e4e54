"""Batch norms of traced networks: find them, and fold them into the convolutions in front of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..layers import with_state
from ..outputs import Arguments
from .graph import Network, Place, Step
from .kinds import NORMS, kind_of


def find_norms(network: Network) -> None:
    """Turn batch norms that a network calls as functions into modules, so that they can be changed."""
    for node in list(network.graph.nodes):
        if node.target is F.batch_norm and (state := _state(network, node)):
            kind = NORMS[max(len(network.shapes[node]) - 3, 0)]
            channels, eps = len(state["running_mean"]), _arguments(node)["eps"]
            counted = torch.tensor(0, device=state["running_mean"].device)
            norm = kind(channels, eps, affine="weight" in state)
            network.call_instead(node, with_state(norm, **state, num_batches_tracked=counted))


def _arguments(node: Node) -> dict[str, Any]:
    bound = inspect.signature(F.batch_norm).bind(*node.args, **node.kwargs)
    bound.apply_defaults()
    return bound.arguments


def _state(network: Network, node: Node) -> dict[str, Tensor] | None:
    """Return the tensors of a norm in evaluation mode, or None if they are not those of the network."""
    arguments = _arguments(node)
    given = {name: arguments[name] for name in ("running_mean", "running_var", "weight", "bias")}
    known = {name: own for name, own in given.items() if own is not None}
    attributes = all(isinstance(own, Node) and own.op == "get_attr" for own in known.values())
    if arguments["training"] is not False or not attributes or len(known) not in (2, 4):
        return None
    return {name: network.tensor(own) for name, own in known.items()}


def fold(traced: GraphModule, arguments: Arguments, places: Mapping[str, Place]) -> Step:
    """Fold in place."""
    network, folded = Network(traced, arguments), {}
    for node in list(network.graph.nodes):
        if kind_of(network, node) == "norm" and _can_take(network, source := node.all_input_nodes[0], node):
            conv, norm = network.module(source), network.module(node)
            network.replace(source, fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(source)
            network.graph.erase_node(node)
            folded[str(source.target)] = norm
    moved = {name: replace(place, norm=folded.get(place.module)) for name, place in places.items()}
    return Step(network.finish(), moved, norms=len(folded))


def _can_take(network: Network, conv: Node, norm: Node) -> bool:
    """Return whether nothing else reads a convolution."""
    is_conv = kind_of(network, conv) in ("conv", "depthwise")
    return is_conv and list(conv.users) == [norm]
