"""Edits of a graph: the few moves that every pass is made of.

An `Editor` starts from a graph, collects moves and returns the edited graph; values and constants
that nothing reads any more are gone from it. The graph it came from is untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from isobit.core.types import AnyArray, TensorType
from isobit.ir.graph import Const, Graph, Node, map_inputs, operands


class Editor:
    """Moves on one graph. Node identity is its first output's name."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._nodes: dict[str, tuple[Node, ...]] = {
            node.outputs[0].name: (node,) for node in graph.nodes
        }
        self._aliases: dict[str, str] = {}
        self._consts = graph.const_map()
        self._taken = set(graph.type_map())

    def fresh(self, wanted: str) -> str:
        """Return `wanted` if the graph has no such name yet, else `wanted.2`, `wanted.3`, ..."""
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}.{count}"
        self._taken.add(name)
        return name

    def const(self, wanted: str, kind: TensorType, data: AnyArray, label: str = "") -> str:
        """Add a constant of `kind` and return its name."""
        name = self.fresh(wanted)
        self._consts[name] = Const(name, kind.with_shape(np.shape(data)), data, label)
        return name

    def replace(self, node: Node, *instead: Node) -> None:
        """Put `instead`, in execution order, where `node` stood."""
        self._nodes[node.outputs[0].name] = instead

    def remove(self, node: Node) -> None:
        """Take a node away; something else must define its values, or nothing read them."""
        self.replace(node)

    def alias(self, old: str, new: str) -> None:
        """Let every reader of `old` read `new`. Outputs of the graph keep their names."""
        self._aliases[old] = new

    def resolved(self, name: str) -> str:
        """Return what `name` stands for after the aliases so far."""
        while name in self._aliases:
            name = self._aliases[name]
        return name

    def refusal(self, old: str, new: str) -> str:
        """Return "" if `alias(old, new)` keeps the graph's outputs, else why it would not: as
        `may_alias`, of what both stand for after the aliases so far.
        """
        new = self.resolved(new)
        outputs = {out: self.resolved(out) for out in self._graph.outputs}
        moved = [out for out, value in outputs.items() if value == old]
        if not moved:
            return ""
        taken = [out for out, value in outputs.items() if value == new and out not in moved]
        if taken:
            return f"%{taken[0]} and %{moved[0]} are both outputs of the network"
        return may_alias(self._graph, moved[0], new)

    def result(self) -> Graph:
        """Return the edited graph without what nothing needs."""
        outputs = {self.resolved(name): name for name in self._graph.outputs}
        renamed = {inner: outer for inner, outer in outputs.items() if inner != outer}

        def final(name: str) -> str:
            name = self.resolved(name)
            return renamed.get(name, name)

        nodes = []
        for group in self._nodes.values():
            for node in group:
                own = tuple(replace(v, name=renamed.get(v.name, v.name)) for v in node.outputs)
                nodes.append(replace(node, inputs=map_inputs(node.inputs, final), outputs=own))
        states = tuple(replace(s, next=final(s.next)) for s in self._graph.states)
        kept = needed(nodes, (*self._graph.outputs, *(state.next for state in states)))
        read = {name for node in kept for name in operands(node.inputs)}
        read |= {state.reset for state in states}
        return replace(
            self._graph,
            states=states,
            nodes=tuple(kept),
            consts=tuple(const for const in self._consts.values() if const.name in read),
        )


def may_alias(graph: Graph, old: str, new: str) -> str:
    """Return "" if `Editor.alias(old, new)` keeps the graph's outputs, else why it would not.

    An output keeps its name by giving it to the value it now is; that value must then be computed
    by a node and be no output itself.
    """
    if old not in graph.outputs:
        return ""
    if new in graph.outputs:
        return f"%{old} and %{new} are both outputs of the network"
    if new not in graph.producers():
        return f"%{old} is an output of the network and %{new} is computed by no node"
    return ""


def needed(nodes: Iterable[Node], outputs: Iterable[str]) -> list[Node]:
    """Return the nodes that `outputs` depend on, in the same order."""
    wanted, kept = set(outputs), []
    for node in reversed(list(nodes)):
        if any(value.name in wanted for value in node.outputs):
            wanted.update(operands(node.inputs))
            kept.append(node)
    return kept[::-1]


def insert_on(graph: Graph, name: str, make: Callable[[str], Iterable[Node]]) -> Graph:
    """Return a graph in which every reader of the value `name` reads what `make(fresh)` computes
    from it.

    `make` gets a fresh name and returns nodes whose last one defines a value of that name.
    """
    fresh = Editor(graph).fresh(f"{name}.after")
    added = tuple(make(fresh))

    def moved(node: Node) -> Node:
        inputs = map_inputs(node.inputs, lambda n: fresh if n == name else n)
        return replace(node, inputs=inputs)

    nodes: list[Node] = []
    if name not in graph.producers():
        nodes.extend(added)
    for node in graph.nodes:
        nodes.append(moved(node))
        if any(value.name == name for value in node.outputs):
            nodes.extend(added)
    outputs = tuple(fresh if out == name else out for out in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs)
