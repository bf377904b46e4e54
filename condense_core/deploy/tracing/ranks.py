"""Answer what a traced network asks about ranks, so that only what computes reads its tensors."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx
from torch.fx import Node

from .graph import Network


def answer_ranks(network: Network) -> None:
    """Replace ranks by their numbers, and take assertions about them away, which have held."""
    for node in list(network.graph.nodes):
        if (answer := _answer(network, node)) is not None:
            for user in list(node.users):
                arguments = user.args, user.kwargs
                user.args, user.kwargs = fx.map_arg(arguments, lambda own: answer if own is node else own)  # noqa: B023
        elif node.target is not torch._assert or node.args[0] is not True:
            continue
        network.graph.erase_node(node)


def _answer(network: Network, node: Node) -> Any:
    """Return what a node gives if it follows from a rank, else None."""
    is_rank = node.target == "dim" if node.op == "call_method" else node.args[1:] == ("ndim",)
    if is_rank and node.target in ("dim", getattr):
        (source,) = node.all_input_nodes
        return len(network.shapes[source]) if source in network.shapes else None
    if node.target in (operator.eq, operator.ne) and all(type(own) is int for own in node.args):
        return node.target(*node.args)
    return None
