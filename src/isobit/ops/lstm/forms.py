"""What a value of a float graph is as a sum of stored matrices times elements of other values.

Moves of elements (views, slices, splits, joins, transposes) are followed by moving the elements'
numbers through the operators themselves. A value that is neither such a sum nor moved is an atom:
its elements get numbers of their own. All shapes are those of one sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isobit.core.types import FloatArray, IntArray
from isobit.ir.graph import Graph, Node, map_inputs
from isobit.ops.add.op import AddInputs
from isobit.ops.check import activations
from isobit.ops.registry import load_ops
from isobit.ops.reshape.op import ReshapeInputs
from isobit.ops.weighted import WeightedInputs

MOVES = frozenset({"reshape", "strided_slice", "split", "transpose", "concat"})
Element = tuple[str, int]
"""A value and the position of one of its elements."""


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """`w` [n,m] times the elements `ids` [m]."""

    w: FloatArray
    ids: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """The sum of all terms and `b` [n]."""

    terms: tuple[Term, ...]
    b: FloatArray


class Forms:
    """The forms of a graph's values. Every value is elements; some are sums too."""

    def __init__(self, graph: Graph) -> None:
        self.types = graph.type_map()
        self.consts = graph.const_map()
        self.producers = graph.producers()
        self._ids: dict[str, IntArray] = {}
        self._sums: dict[str, Linear] = {}
        self._atoms: list[tuple[int, str]] = []
        """The number of an atom's first element, ascending."""
        self._count = 0
        for node in graph.nodes:  # in execution order, so that nothing recurses
            self._node(node)

    def seen(self, name: str) -> str:
        """Return what a view looks at."""
        while (node := self.producers.get(name)) is not None and node.op == "reshape":
            assert isinstance(node.inputs, ReshapeInputs)
            name = node.inputs.x
        return name

    def producer(self, name: str) -> Node | None:
        """Return the node that computes a value, views left out."""
        return self.producers.get(self.seen(name))

    def is_zero(self, name: str) -> bool:
        """Whether a value is a stored tensor of zeros."""
        stored = self.consts.get(self.seen(name))
        return stored is not None and not np.any(stored.data)

    def linear(self, name: str) -> Linear | None:
        """Return a value as a sum; `None` for others."""
        return self._sums.get(name)

    def elements(self, ids: IntArray) -> list[Element]:
        """Return what numbers stand for."""
        starts = [first for first, _ in self._atoms]
        found = np.searchsorted(starts, ids, side="right") - 1
        pairs = zip(ids.tolist(), found.tolist(), strict=True)
        return [(self._atoms[at][1], number - self._atoms[at][0]) for number, at in pairs]

    def ids(self, name: str) -> IntArray:
        """Return the numbers of a value's elements: those it was moved from, or its own."""
        if name not in self._ids:
            size = self.types[name].elements
            self._atoms.append((self._count, name))
            self._ids[name] = np.arange(self._count, self._count + size)
            self._count += size
        return self._ids[name]

    def places(self, name: str, wanted: IntArray) -> IntArray | None:
        """Return where in a value elements are, `None` where one is missing."""
        own = self.ids(name)
        order = np.argsort(own, kind="stable")
        at = np.minimum(np.searchsorted(own[order], wanted), own.size - 1)
        found: IntArray = order[at]
        return found if np.array_equal(own[found], wanted) else None

    def _node(self, node: Node) -> None:
        inputs: Any = node.inputs
        if node.op in MOVES:
            self._move(node)
        if node.op == "linear" and isinstance(inputs, WeightedInputs):
            self._sums[node.output.name] = self._product(inputs)
        if isinstance(inputs, AddInputs) and not getattr(node.attrs, "subtract", False):
            found = self._sum(node, inputs)
            if found is not None:
                self._sums[node.output.name] = found

    def _product(self, inputs: WeightedInputs[str]) -> Linear:
        w = self.consts[inputs.w].data.astype(np.float64)
        b = np.zeros(len(w)) if inputs.b is None else self.consts[inputs.b].data
        ids = self.ids(inputs.x)
        elements = self.elements(ids)
        stored = np.asarray([name in self.consts for name, _ in elements])
        for column in np.flatnonzero(stored):  # such as the zeros before a first step
            name, at = elements[column]
            b = b + w[:, column] * float(self.consts[name].data.reshape(-1)[at])
        return Linear((Term(w[:, ~stored], ids[~stored]),), b.astype(np.float64))

    def _sum(self, node: Node, inputs: AddInputs[str]) -> Linear | None:
        """Return the sum of two values, of which one is a sum already."""
        shape, parts = node.output.type.shape, []
        if inputs.a not in self._sums and inputs.b not in self._sums:
            return None
        for name in (inputs.a, inputs.b):
            kind, own = self.types[name], self._sums.get(name)
            if name in self.consts:
                data = self.consts[name].data.astype(np.float64)
                own = Linear((), np.broadcast_to(data, shape).reshape(-1))
            elif kind.elements != node.output.type.elements:
                return None
            elif own is None:
                own = Linear(
                    (Term(np.eye(kind.elements), self.ids(name)),), np.zeros(kind.elements)
                )
            parts.append(own)
        a, b = parts
        return Linear((*a.terms, *b.terms), a.b + b.b)

    def _move(self, node: Node) -> None:
        """Move the numbers of elements, and the rows of a sum, as the operator moves elements."""
        op = load_ops().op(node.op)

        def moved(given: Mapping[str, IntArray]) -> list[IntArray]:
            def numbers(name: str) -> FloatArray:
                return given[name].astype(np.float64).reshape(self.types[name].shape)

            result = op.real(node.attrs, map_inputs(node.inputs, numbers))
            results = result if isinstance(result, tuple) else (result,)
            return [np.asarray(r).astype(np.int64).reshape(-1) for r in results]

        names = activations(op, node)
        results = moved({name: self.ids(name) for name in names})
        self._ids.update((v.name, ids) for v, ids in zip(node.outputs, results, strict=True))
        own = self._sums.get(names[0]) if len(names) == 1 else None
        if own is not None:
            order = moved({names[0]: np.arange(own.b.size)})
            pairs = zip(node.outputs, order, strict=True)
            self._sums.update((value.name, _rows(own, rows)) for value, rows in pairs)


def _rows(form: Linear, rows: IntArray) -> Linear:
    terms = tuple(replace(term, w=term.w[rows]) for term in form.terms)
    return Linear(terms, form.b[rows])
