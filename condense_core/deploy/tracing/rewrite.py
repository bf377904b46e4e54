"""Move the indices of a traced network towards its end, share them, and drop channels that nothing reads.

The tensor of every node is seen as a *view*: channels `index` of another tensor that is really computed, −1
where nothing reads a channel. What works channel by channel passes a view on, standard layers take it into
their weights, and in front of all else one gather makes it real.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import GraphModule, Node

from ..layers import convolution, linear, select_channels
from ..outputs import Arguments
from .graph import Network, Place, Step
from .kinds import concatenated, kind_of
from .norms import find_norms
from .ranks import answer_ranks
from .reads import channels_read


@dataclass(frozen=True)
class View:
    """Channels of a tensor that is computed; without an index all of them in their order."""

    stored: Node
    index: Tensor | None = None  # int64 (channels,)


def rewrite(traced: GraphModule, arguments: Arguments, places: Mapping[str, Place]) -> Step:
    """Rewrite a network in place."""
    network = Network(traced, arguments)
    answer_ranks(network)
    find_norms(network)
    rewriter = _Rewriter(network)
    for node in list(network.graph.nodes):
        rewriter.visit(node)
    views = {str(node.target): view for node, view in rewriter.views.items() if node.op == "call_module"}
    found = {
        name: replace(place, module=str(view.stored.target), channels=_channels(view))
        for name, place in places.items()
        if (view := views.get(place.module))
    }
    return Step(network.finish(), found, dropped=rewriter.dropped)


def _channels(view: View) -> Tensor | None:
    return None if view.index is None else _inverse(view.index)


class _Rewriter:
    def __init__(self, network: Network):
        self.network = network
        self.kinds = {node: kind_of(network, node) for node in network.graph.nodes}
        self.reads = channels_read(network, self.kinds)
        self.widths = {node: len(mask) for node, mask in self.reads.items()}  # channels that are computed
        self.views: dict[Node, View] = {}
        self.gathers: dict[tuple[Any, ...], Node] = {}
        self.dropped = 0

    def visit(self, node: Node) -> None:
        """Rewrite a node whose inputs are rewritten."""
        self.views[node] = View(node)
        handle = {
            "index": self._index, "conv": self._layer, "linear": self._layer, "map": self._channelwise,
            "norm": self._channelwise, "depthwise": self._channelwise, "join": self._join, "cat": self._cat,
        }.get(self.kinds[node], self._make_real)  # fmt: skip
        handle(node)

    def _index(self, node: Node) -> None:
        """Look through an index, unless what it reads or gives is changed in place: then it must be a copy."""
        (source,) = node.all_input_nodes
        is_changed = self.network.is_changed
        if is_changed(source) or (len(node.users) > 1 and is_changed(node)):
            self._make_real(node)
        else:
            view, index = self.views[source], self.network.module(node).index
            self.views[node] = View(view.stored, index if view.index is None else view.index[index])

    def _channelwise(self, node: Node) -> None:
        (source,) = node.all_input_nodes
        view = self.views[source]
        if view.index is None or not self._can_pass(node, source):
            return self._make_real(node)
        module, order = self.network.module(node), _inverse(view.index)
        if self.kinds[node] == "norm":
            self.network.replace(node, select_channels(module, order))
        elif self.kinds[node] == "depthwise":
            self.network.replace(node, weighted(module, module.weight[order], order, len(order)))
        return self._pass(node, view.index)

    def _layer(self, node: Node) -> None:
        """Take a permutation of the inputs into the weights, and leave outputs out that nothing reads."""
        (source,) = node.all_input_nodes
        module, view, read = self.network.module(node), self.views[source], self.reads[node]
        groups, weight = getattr(module, "groups", 1), module.weight
        if groups == 1 and view.index is not None and self._is_permutation(view):
            weight = weight[:, _inverse(view.index)]
            node.replace_input_with(source, view.stored)
        else:
            self._make_real(node)
        if weight is not module.weight or not read.all():
            self.network.replace(node, weighted(module, weight[read], read, groups))
            self._leave_out(node, read)

    def _join(self, node: Node) -> None:
        """Arithmetic on several tensors: it passes on a view that all have, else all are made real."""
        sources, read = node.all_input_nodes, self.reads[node]
        indices = [self.views[source].index for source in sources]
        first = indices[0]
        if first is not None and all(
            own is not None and own.equal(first) and self._can_pass(node, source)
            for own, source in zip(indices, sources, strict=True)
        ):
            return self._pass(node, first)
        self._make_real(node, read)
        return self._leave_out(node, read)

    def _cat(self, node: Node) -> None:
        """Pass the views of the parts on, one behind the other."""
        indices, place = [], 0
        inputs: dict[Node, Node] = {}
        for source in concatenated(node):
            view = self.views[source]
            if not self._is_permutation(view):
                view = View(self._real(source, node))
            inputs[source], width = view.stored, self._width(view.stored)
            own = self._index_of(view)
            indices.append(torch.where(own >= 0, own + place, -1))
            place += width
        _replace_inputs(node, inputs)
        self._pass(node, torch.cat(indices), place)

    def _pass(self, node: Node, index: Tensor, width: int | None = None) -> None:
        """Let a node work on the tensors that are computed, and have their view."""
        if width is None:
            sources = {source: self.views[source].stored for source in node.all_input_nodes}
            _replace_inputs(node, sources)
            width = self._width(next(iter(sources.values())))
        self.widths[node] = width
        self.views[node] = View(node, None if _is_identity(index, width) else index)

    def _leave_out(self, node: Node, read: Tensor) -> None:
        """Note that a node computes only the channels that are read."""
        if not read.all():
            self.dropped += int((~read).sum()) if self.kinds[node] != "join" else 0
            self.widths[node] = int(read.sum())
            self.views[node] = View(node, torch.where(read, read.cumsum(0) - 1, -1))

    def _make_real(self, node: Node, read: Tensor | None = None) -> None:
        """Let a node read real channels: all, or those that are `read`."""
        _replace_inputs(node, {source: self._real(source, node, read) for source in node.all_input_nodes})

    def _real(self, source: Node, reader: Node, read: Tensor | None = None) -> Node:
        """Return a node that has a tensor's channels in their order; readers of the same ones share it."""
        view = self.views[source]
        if view.index is None and (read is None or read.all()):
            return source
        index = self._index_of(view) if read is None else self._index_of(view)[read]
        index = index.clamp(min=0)
        private = self.network.is_in_place(reader) or self.network.is_changed(view.stored)
        if _is_identity(index, self._width(view.stored)) and not private:
            return view.stored
        key = view.stored, tuple(index.tolist())
        if private or key not in self.gathers:
            gather = self.network.insert_index(view.stored, index, reader)
            if private:
                return gather
            self.gathers[key] = gather
        return self.gathers[key]

    def _index_of(self, view: View) -> Tensor:
        if view.index is not None:
            return view.index
        return torch.arange(self._width(view.stored), device=self.reads[view.stored].device)

    def _width(self, node: Node) -> int:
        return self.widths[node]

    def _is_permutation(self, view: View) -> bool:
        """Whether a view has every channel that is computed once."""
        if view.index is None:
            return True
        found = view.index[view.index >= 0].sort().values
        return _is_identity(found, self._width(view.stored))

    def _can_pass(self, node: Node, source: Node) -> bool:
        """Whether a node may work on what is computed instead of on its view."""
        view = self.views[source]
        if not self._is_permutation(view):
            return False
        if source is view.stored or not self.network.is_in_place(node):
            return True
        return list(view.stored.users) == [source] and list(source.users) == [node]


def weighted(module: Any, weight: Tensor, outputs: Tensor, groups: int) -> Any:
    """Build a convolution or linear layer like another of these weights, and the biases of `outputs`."""
    bias = None if module.bias is None else module.bias[outputs]
    if isinstance(module, nn.Linear):
        return linear(module, weight, bias)
    return convolution(module, weight, bias, groups)


def _replace_inputs(node: Node, inputs: Mapping[Node, Node]) -> None:
    """Replace a node's inputs at once: one may be replaced by another."""
    node.args, node.kwargs = fx.map_arg((node.args, node.kwargs), lambda own: inputs.get(own, own))


def _is_identity(index: Tensor, width: int) -> bool:
    return len(index) == width and bool((index == torch.arange(width, device=index.device)).all())


def _inverse(index: Tensor) -> Tensor:
    """Return which channel of a view each computed channel is."""
    channels = torch.arange(len(index), device=index.device)
    present = index >= 0
    return torch.empty(int(present.sum()), dtype=index.dtype, device=index.device).scatter_(
        0, index[present], channels[present]
    )
