"""Which layer made each channel that a layer reads, by tracing concatenations and sums."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn
from torch.fx import Node

from condense_core.grouping import Masked, masked_layers
from condense_core.looking import evaluating

from ..outputs import arguments_of, check_reads, first_line
from .graph import Network, trace
from .kinds import concatenated, kind_of

Makers = tuple[str, ...]  # the layers that make a channel together, as in a sum: by name, the last one first
Part = tuple[Makers, int]  # the makers of so many channels
Source = tuple[str, int, int]
MAX_NAMED = 2  # of the layers in a sum


def channel_sources(model: nn.Module, example: Any) -> dict[str, tuple[Source, ...]]:
    """Return what each masked layer reads, by its name: (layer, start, stop) for its channels, in order.

    A sum is named after the layers whose outputs are added, the last one first. Where channels are mixed, all
    layers behind them are their source. Raise ValueError if `torch.fx` cannot trace the model.
    """
    arguments = arguments_of(example)
    reference = check_reads(model, arguments)
    with evaluating(model):
        try:
            network = Network(trace(model, arguments, reference), arguments)
            parts = _parts(network)
        except Exception as error:  # whatever the model raises when it is given no numbers
            raise ValueError(
                f"torch.fx cannot trace the {type(model).__name__}: {first_line(error)}"
            ) from error
    inputs = {name: layer.mask.shape[1] for name, layer in masked_layers(model).items()}
    read = {
        str(node.target): node.all_input_nodes[0] for node in network.graph.nodes if _is_masked(network, node)
    }
    return {name: _named(parts.get(read.get(name), ()), width) for name, width in inputs.items()}


def _is_masked(network: Network, node: Node) -> bool:
    return isinstance(network.module(node), Masked)


def _parts(network: Network) -> dict[Node | None, tuple[Part, ...]]:
    """Return who made the channels (axis 1) of every tensor."""
    order = {str(node.target): place for place, node in enumerate(network.graph.nodes)}
    parts: dict[Node | None, tuple[Part, ...]] = {}
    for node in network.graph.nodes:
        parts[node] = tuple(_merged(_made(network, node, parts, order)))
    return parts


def _made(
    network: Network, node: Node, parts: Mapping[Node | None, tuple[Part, ...]], order: Mapping[str, int]
) -> Iterable[Part]:
    shape, module = network.shapes.get(node, ()), network.module(node)
    channels = (
        shape[1] if len(shape) > 1 else 0
    )  # of a tuple of tensors, such as chunks, only the makers are known
    read = [parts[own] for own in node.all_input_nodes]
    if node.op == "placeholder":
        return [((node.name,), channels)]
    if module is not None and any(own.dim() > 1 for own in module.parameters()):
        return [((str(node.target),), channels)]
    match kind_of(network, node):
        case "cat":
            return [part for own in concatenated(node) for part in parts[own]]
        case "map" | "norm" | "join":
            return _added(read, order)
    return [(_together((makers for own in read for makers, _ in own), order), channels)]


def _added(read: list[tuple[Part, ...]], order: Mapping[str, int]) -> Iterator[Part]:
    """Split several tensors where any of them has another maker, and join the makers of each part."""
    ends = [list(itertools.accumulate(width for _, width in own)) for own in read]
    start = 0
    for end in sorted({end for own in ends for end in own}):
        made = (own[sum(last <= start for last in lasts)][0] for own, lasts in zip(read, ends, strict=True))
        yield _together(made, order), end - start
        start = end


def _together(makers: Iterable[Makers], order: Mapping[str, int]) -> Makers:
    names = {name for one in makers for name in one}
    return tuple(sorted(names, key=lambda name: order.get(name, -1), reverse=True))


def _merged(parts: Iterable[Part]) -> Iterator[Part]:
    """Join neighbouring parts of the same makers."""
    for makers, own in itertools.groupby(parts, key=lambda part: part[0]):
        yield makers, sum(width for _, width in own)


def _named(parts: tuple[Part, ...], width: int) -> tuple[Source, ...]:
    """Name the sources of a layer with so many inputs; one for all where they are on another axis."""
    if sum(channels for _, channels in parts) != width:
        makers = tuple(dict.fromkeys(name for own, _ in parts for name in own))
        parts = ((makers, width),)
    stops = list(itertools.accumulate(channels for _, channels in parts))
    starts = [0, *stops[:-1]]
    names = (_name(makers) for makers, _ in parts)
    return tuple(zip(names, starts, stops, strict=True))


def _name(makers: Makers) -> str:
    rest = len(makers) - MAX_NAMED
    more = [f"{rest} more"] if rest > 0 else []
    return " + ".join([*makers[:MAX_NAMED], *more]) or "inputs"
