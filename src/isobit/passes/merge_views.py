"""Views of views become views of the first: foreign graphs flatten, expand and squeeze in a row."""

from __future__ import annotations

import numpy as np

from isobit.ir.edit import Editor, insert_on
from isobit.ir.graph import Graph, Node, Value, operands
from isobit.ops.registry import load_ops
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.passes.base import Pass, Rewrite, Step


class MergeViews(Pass):
    """`view(view(x)) -> reshape(x)`. The inner one stays for its other readers; it costs nothing.

    Where the last shape is the first again, `drop_noop` takes the one reshape that is left.
    """

    after = ("drop_noop",)

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        registry, edit, done = load_ops(), Editor(graph), []
        source: dict[str, str] = {}
        for node in graph.nodes:
            if not registry.op(node.op).view:
                continue
            read, own = next(operands(node.inputs)), node.output
            source[own.name] = source.get(read, read)
            if read in source:
                inputs, attrs = ReshapeInputs(source[own.name]), ReshapeAttrs(own.type.shape[1:])
                edit.replace(node, Node("reshape", inputs, attrs, (own,), node.location))
                done.append(Step(node=own.name, text=f'a view of "{inputs.x}", not of "{read}"'))
        return Rewrite(graph=edit.result() if done else graph, done=tuple(done))

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Put two to four reshapes behind a value, of which the last has its shape."""
        values = [v for node in graph.nodes for v in node.outputs]
        value, edit = values[int(rng.integers(len(values)))], Editor(graph)
        count = value.type.elements

        def make(out: str) -> list[Node]:
            last, nodes = value, []
            for _ in range(int(rng.integers(1, 4))):
                shape = (1, count) if rng.random() < 0.5 else (1, 1, count, 1)
                nodes.append(
                    _reshape(last, Value(edit.fresh("view"), value.type.with_shape(shape)))
                )
                last = nodes[-1].output
            return [*nodes, _reshape(last, Value(out, value.type))]

        return insert_on(graph, value.name, make)


def _reshape(x: Value, y: Value) -> Node:
    return Node("reshape", ReshapeInputs(x.name), ReshapeAttrs(y.type.shape[1:]), (y,))
