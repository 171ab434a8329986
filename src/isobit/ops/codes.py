"""Values that are functions of one code: chains of elementwise int8 operators over one value.

Whatever such a chain computes, it computes of each of 256 codes; all of them are tried by
`Op.integer`. So whether two chains are equal is a comparison of two tables, not a proof. The
operand may be used several times: `x * sigmoid(x)` is one function of `x` too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.errors import IsobitError
from isobit.core.types import IntArray, TensorType
from isobit.ir.graph import Const, Graph, Node, map_inputs
from isobit.ops.base import NodeTypes
from isobit.ops.check import activations
from isobit.ops.registry import load_ops

CODES = np.arange(-128, 128, dtype=np.int64)
"""What a table is indexed by, in order."""


@dataclass(frozen=True, slots=True)
class Chain:
    """One value as a function of the codes of another of the same shape.

    `nodes` are in execution order; nothing but them reads what they compute, except for the last
    one, which computes the value.
    """

    source: str
    table: IntArray
    """[256] int64: what becomes of the codes -128..127."""
    nodes: tuple[Node, ...]


class Functions:
    """Which values of an integer graph are functions of one code. O(nodes) to build."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._types: Mapping[str, TensorType] = graph.type_map()
        self._consts: Mapping[str, Const] = graph.const_map()
        self._producers, self._consumers = graph.producers(), graph.consumers()
        self._roots: dict[str, str] = {}
        for node in graph.nodes:
            values = self._operands(node)
            roots = {self._roots.get(name, name) for name in values}
            if len(roots) == 1 and self._evaluate(node, self._every(values)) is not None:
                self._roots[node.output.name] = roots.pop()

    def _every(self, values: Iterable[str]) -> dict[str, IntArray]:
        """Return all codes of each of the values, as a batch of one element."""
        return {v: CODES.reshape(256, *[1] * (len(self._types[v].shape) - 1)) for v in values}

    def _operands(self, node: Node) -> tuple[str, ...]:
        """Return what an elementwise int8 node reads but constants, () for any other node."""
        op = load_ops().op(node.op)
        if not op.elementwise or op.view or len(node.outputs) != 1:
            return ()
        flowing = activations(op, node)
        stored = [n for n in flowing if n in self._consts]
        values = tuple(n for n in flowing if n not in self._consts)
        kinds = [self._types[n] for n in (*values, node.output.name)]
        same = all(kind.dtype is DType.S8 and kind.shape == kinds[0].shape for kind in kinds)
        return values if same and all(self._types[n].elements == 1 for n in stored) else ()

    def chains(self, name: str) -> Iterator[Chain]:
        """Yield the chains that end with the value `name` and only exist for it, the longest first;
        none where it is no function of one code.
        """
        root = self._roots.get(name)
        if root is None:
            return
        nodes = self._only_for(name, root)
        for start in range(len(nodes)):
            some = nodes[start:]
            own = {node.output.name for node in some}
            sources = {n for node in some for n in self._operands(node) if n not in own}
            # Where all that is left out hangs on one value, that one need not live longer than now.
            if len(sources) == 1:
                (source,) = sources
                yield Chain(source, self._table(some, source), some)
            elif start == 0:
                yield Chain(root, self._table(self._cone(name, root), root), nodes)

    def shared(self, node: Node) -> str:
        """Return an operand that is a function of one code itself but needed elsewhere, "" where
        there is none.
        """
        return next((name for name in self._operands(node) if name in self._roots), "")

    def _cone(self, name: str, root: str) -> tuple[Node, ...]:
        """Return the nodes between `root` and `name`, in execution order."""
        wanted, found = {name}, []
        for node in reversed(self._graph.nodes):
            if wanted & {value.name for value in node.outputs}:
                wanted |= {n for n in self._operands(node) if n != root}
                found.append(node)
        return tuple(found[::-1])

    def _only_for(self, name: str, root: str) -> tuple[Node, ...]:
        kept: list[Node] = []
        for node in reversed(self._cone(name, root)):
            own = node.output.name
            inner = own not in self._graph.kept and all(
                any(reader is taken for taken in kept) for reader in self._consumers[own]
            )
            if own == name or inner:
                kept.append(node)
        return tuple(kept[::-1])

    def _table(self, nodes: Iterable[Node], source: str) -> IntArray:
        """Return what `nodes` make of the 256 codes of `source`, [256] int64."""
        codes = self._every((source,))
        result = codes[source]
        for node in nodes:
            found = self._evaluate(node, codes)
            assert found is not None, "it is in the chain because it was tried"
            result = codes[node.output.name] = found
        flat: IntArray = result.reshape(256)
        return flat

    def _evaluate(self, node: Node, codes: Mapping[str, IntArray]) -> IntArray | None:
        """Return the node's codes, [256,1,...]; `None` where it treats channels differently."""
        op, one = load_ops().op(node.op), (1,) * len(node.output.type.shape)
        flowing = activations(op, node)

        def kind(name: str) -> TensorType:
            own = self._types[name]
            return own.with_shape(one) if name in flowing else own

        def array(name: str) -> Any:
            if name in codes:
                return codes[name]
            data = self._consts[name].data
            data = data if data.dtype.kind == "f" else data.astype(np.int64)
            return np.broadcast_to(data, (256, *one[1:])) if name in flowing else data

        q = NodeTypes(map_inputs(node.inputs, kind), (node.output.type.with_shape(one),))
        try:
            (inferred,) = op.outputs_of(node.attrs, q.inputs)
        except IsobitError:  # constants of several channels do not suit one element
            return None
        if inferred.shape != one:
            return None
        result = op.integer(node.attrs, q, map_inputs(node.inputs, array))
        return None if isinstance(result, tuple) else result
