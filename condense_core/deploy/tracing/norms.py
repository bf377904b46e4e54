"""Fold batch norms into the convolutions in front of them: exact in evaluation mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..outputs import Arguments
from .graph import Network, Place, Step
from .kinds import kind_of


def fold(traced: GraphModule, arguments: Arguments, places: Mapping[str, Place]) -> Step:
    """Fold in place. A masked layer is found again after its norm then."""
    network, folded = Network(traced, arguments), {}
    for node in list(network.graph.nodes):
        if kind_of(network, node) == "norm" and _can_take(network, source := node.all_input_nodes[0], node):
            conv, norm = network.module(source), network.module(node)
            network.replace(source, fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(source)
            network.graph.erase_node(node)
            folded[str(source.target)] = str(node.target)
    moved = {
        name: replace(place, reference=folded.get(place.module, place.reference))
        for name, place in places.items()
    }
    return Step(network.finish(), moved, norms=len(folded))


def _can_take(network: Network, conv: Node, norm: Node) -> bool:
    """Return whether nothing else reads a convolution."""
    is_conv = kind_of(network, conv) in ("conv", "depthwise")
    return is_conv and list(conv.users) == [norm]
