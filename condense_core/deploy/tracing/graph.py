"""A network as a graph of its modules and functions, traced by `torch.fx`, with the shapes of an example."""

from __future__ import annotations

import copy
import inspect
import operator
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import GraphModule, Node

from condense_core.grouping import Masked

from ..blocks import GroupedLinear, Index
from ..outputs import Arguments


@dataclass(frozen=True)
class Place:
    """Where the outputs of a masked layer are found again: modules of the model and of the condensed one.

    Those that are still computed are `channels`, in this order, and have passed the norm that was folded.
    """

    reference: str
    module: str
    channels: Tensor | None = None
    norm: nn.Module | None = None


@dataclass(frozen=True)
class Step:
    """A network after a step, the places of its masked layers, and what the step has done."""

    traced: GraphModule
    places: Mapping[str, Place]
    norms: int = 0  # folded
    dropped: int = 0  # channels


class _Tracer(fx.Tracer):
    """Leaves the modules of `torch.nn` and ours whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Index | GroupedLinear | Masked) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module, arguments: Arguments, reference: Any) -> GraphModule:
    """Trace a model for as many arguments as the example has; what it takes by default stays as it is.

    Dictionaries of outputs keep the class that they have in `reference`.
    """
    taken = list(inspect.signature(model.forward).parameters.values())
    defaults = {
        one.name: one.default for one in taken[len(arguments) :] if one.default is not inspect.Parameter.empty
    }
    tracer = _Tracer()
    graph = tracer.trace(model, concrete_args=defaults)
    if isinstance(reference, dict) and type(reference) is not dict:
        _keep_class(graph, type(reference))
    return GraphModule(tracer.root, graph, type(model).__name__)


def fork(traced: GraphModule) -> GraphModule:
    """Return a traced network that calls the same modules, but can be given others."""
    return GraphModule(traced, copy.deepcopy(traced.graph), traced._get_name())


def _keep_class(graph: fx.Graph, kind: type) -> None:
    """Let the graph return its dictionary as a `kind`, which tracing loses."""
    output = next(reversed(graph.nodes))
    with graph.inserting_before(output):
        output.args = (graph.call_function(kind, (output.args[0],)),)


IN_PLACE = {
    *(operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow, operator.setitem),
    *(torch.relu_, torch.sigmoid_, torch.tanh_, torch.clamp_),
}
"""Functions that change what they read."""


class Network:
    """A traced network: its nodes' modules and the shapes of their results on the example."""

    def __init__(self, traced: GraphModule, arguments: Arguments):
        self.traced, self.graph = traced, traced.graph
        self.modules = dict(traced.named_modules())
        self._drop_dead_code()
        self.shapes = _Shapes(traced).of(arguments)
        self._uses = Counter(id(self.module(node)) for node in self.graph.nodes)
        self._read = [str(node.target) for node in self.graph.nodes if node.op == "get_attr"]

    def module(self, node: Node) -> Any:
        """Return the module that a node calls, or None."""
        return self.modules.get(str(node.target)) if node.op == "call_module" else None

    def called(self, node: Node) -> Any:
        """Return the class of the module, the function or the name of the method that a node calls."""
        return type(self.module(node)) if node.op == "call_module" else node.target

    def is_changed(self, node: Node) -> bool:
        """Whether a tensor is changed in place by one that reads it."""
        return any(user.args and user.args[0] is node and self.is_in_place(user) for user in node.users)

    def is_in_place(self, node: Node) -> bool:
        """Whether a node changes its first input."""
        called, module = self.called(node), self.module(node)
        if node.op == "call_method":
            return str(called).endswith("_")
        return called in IN_PLACE or bool(node.kwargs.get("inplace", getattr(module, "inplace", False)))

    def is_replaceable(self, node: Node) -> bool:
        """Whether a node's module is called there alone, without hooks, and its weights not read elsewhere."""
        module = self.module(node)
        hooks = module._forward_hooks or module._forward_pre_hooks
        is_read = any(name.startswith(f"{node.target}.") for name in self._read)
        return self._uses[id(module)] == 1 and not hooks and not is_read

    def replace(self, node: Node, module: nn.Module) -> None:
        """Let a node call another module, under the same name."""
        parent, _, name = str(node.target).rpartition(".")
        setattr(self.traced.get_submodule(parent), name, module.eval().requires_grad_(False))
        self.modules[str(node.target)] = module

    def insert_index(self, source: Node, index: Tensor, before: Node) -> Node:
        """Add a gather of channels in front of a node."""
        return self._insert(Index(index), f"{before.name}_index", source, before)

    def call_instead(self, node: Node, module: nn.Module) -> None:
        """Let a module do what a function did to its first input."""
        source = node.args[0] if node.args else node.kwargs["input"]
        called = self._insert(module, f"{node.name}_module", source, node)
        self.shapes[called] = self.shapes[node]
        node.replace_all_uses_with(called)
        self.graph.erase_node(node)

    def tensor(self, node: Node) -> Tensor:
        """Return the parameter or buffer that a node reads."""
        module, _, name = str(node.target).rpartition(".")
        return getattr(self.traced.get_submodule(module), name)

    def _insert(self, module: nn.Module, name: str, source: Any, before: Node) -> Node:
        while name in self.modules:
            name += "_"
        self.modules[name] = module.eval().requires_grad_(False)
        self._uses[id(module)] += 1
        self.traced.add_submodule(name, module)
        with self.graph.inserting_before(before):
            return self.graph.call_module(name, (source,))

    def _drop_dead_code(self) -> None:
        self.graph.eliminate_dead_code(lambda node: node.is_impure() or self.is_in_place(node))

    def finish(self) -> GraphModule:
        """Drop what is not used any more, and return the network."""
        self._drop_dead_code()
        self.traced.delete_all_unused_submodules()
        self.graph.lint()
        self.traced.recompile()
        return self.traced


class _Shapes(fx.Interpreter):
    """Runs a traced network and notes the shape of every tensor."""

    def of(self, arguments: Arguments) -> dict[Node, tuple[int, ...]]:
        """Return the shapes by node."""
        self.shapes: dict[Node, tuple[int, ...]] = {}
        with torch.no_grad():
            self.run(*arguments)
        return self.shapes

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        return result
