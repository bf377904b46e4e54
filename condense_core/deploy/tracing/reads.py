"""Which channels of each tensor in a traced network are read, seen from its end."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.fx import Node

from .graph import Network
from .kinds import Kind, concatenated

CHANNELWISE = ("map", "norm", "depthwise", "join")


def channels_read(network: Network, kinds: Mapping[Node, Kind]) -> dict[Node, Tensor]:
    """Return the channels that are read of each tensor with channels: bool (channels,).

    Tensors that are tied to one another channel by channel have one answer. A grouped convolution keeps as many
    outputs in each group as the group needs most.
    """
    reads = _tied(network, kinds)
    for node in network.graph.nodes:
        if kinds[node] not in (*CHANNELWISE, "index", "cat"):
            for own in (node, *node.all_input_nodes):
                if own in reads and not (own is node and kinds[node] in ("conv", "linear")):
                    reads[own].fill_(True)
    while _pass_back(network, kinds, reads):
        pass
    return reads


def _tied(network: Network, kinds: Mapping[Node, Kind]) -> dict[Node, Tensor]:
    """Return a mask for each tensor, none of it read yet; tensors that are tied share theirs."""
    device = next((own.device for own in network.traced.parameters()), None)
    reads: dict[Node, Tensor] = {}
    for node in network.graph.nodes:
        if len(shape := network.shapes.get(node, ())) < 2:
            continue
        tied = [own for own in node.all_input_nodes if own in reads] if kinds[node] in CHANNELWISE else []
        reads[node] = reads[tied[0]] if tied else torch.zeros(shape[1], dtype=torch.bool, device=device)
        for other in {id(reads[own]) for own in tied} - {id(reads[node])}:
            reads.update({own: reads[node] for own, mask in reads.items() if id(mask) == other})
    return reads


def _pass_back(network: Network, kinds: Mapping[Node, Kind], reads: Mapping[Node, Tensor]) -> bool:
    """Pass what is read through indices, concatenations and groups, once; return whether that was new."""
    before = sum(int(mask.sum()) for mask in reads.values())
    for node in reversed(network.graph.nodes):
        if kinds[node] == "index":
            reads[node.all_input_nodes[0]][network.module(node).index[reads[node]]] = True
        elif kinds[node] == "cat":
            sources = concatenated(node)
            parts = reads[node].split([len(reads[own]) for own in sources])
            for own, part in zip(sources, parts, strict=True):
                reads[own].logical_or_(part)
        elif kinds[node] == "conv":
            _level(reads[node], network.module(node).groups)
    return before != sum(int(mask.sum()) for mask in reads.values())


def _level(mask: Tensor, groups: int) -> None:
    """Let every group of outputs keep as many as the one that needs most, at least one, lower ones first."""
    by_group = mask.view(groups, -1)
    missing = by_group.sum(1).max().clamp(min=1) - by_group.sum(1, keepdim=True)
    by_group |= ~by_group & ((~by_group).cumsum(1) <= missing)
