"""Moves transposes down until they cancel: foreign graphs turn every image around and back again.

Four moves, each of which leaves fewer bytes to move, or as many in fewer nodes, so that they end:

- a transpose that only moves axes of size 1 becomes a reshape, which costs nothing;
- two in a row become one, and none where the second undoes the first;
- a transpose sinks below operators that do not mind (`Op.permuted`) to a transpose that it meets;
- transposes of several operands become one of the result.

After each move the graph is looked at afresh. O(moves * nodes).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from isobit.core.types import Shape, TensorType
from isobit.ir.edit import Editor, insert_on
from isobit.ir.graph import Const, Graph, Node, Stage, Value, map_inputs
from isobit.ops.axes import moves_nothing
from isobit.ops.check import activations, node_types
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.pad.op import PadAttrs, PadInputs
from isobit.ops.registry import load_ops
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.transpose.op import TransposeAttrs, TransposeInputs
from isobit.passes.base import Pass, Rewrite, Step

Size = tuple[int, int]
"""What transposes cost: bytes they move, and how many they are."""


class SinkTransposes(Pass):
    """`t2(op(t1(x))) -> op(x)` and what is like it."""

    after = ("drop_noop", "fold_constants", "merge_views")

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        done: list[Step] = []
        while True:
            look = _Look(graph)
            moved = next(filter(None, map(look.move, look.transposes)), None)
            if moved is None:
                kept = (
                    Step(node=t.output.name, text=look.why[t.output.name]) for t in look.transposes
                )
                return Rewrite(graph=graph, done=tuple(done), kept=tuple(kept))
            graph, step = moved
            done.append(step)

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Turn a value, do something, and turn it again: behind the value, or as one more
        output.
        """
        values = [v for n in graph.nodes for v in n.outputs if len(v.type.shape) > 2]
        if graph.stage is Stage.INT:
            values = [v for v in values if v.type.dtype.is_integer]
        if not values:
            return None
        value, edit = values[int(rng.integers(len(values)))], Editor(graph)
        perm = (0, *(rng.permutation(len(value.type.shape) - 1) + 1).tolist())
        first = _transpose(value, perm, edit.fresh("turned"))
        if rng.random() < 0.3:

            def make(out: str) -> list[Node]:
                return [first, _transpose(first.output, _inverse(perm), out)]

            return insert_on(graph, value.name, make)
        middle, consts = _middle(graph, value, perm, first.output, edit, rng)
        last = middle[-1].output if middle else first.output
        back = _inverse(perm) if rng.random() < 0.7 else perm
        final = _transpose(last, back, edit.fresh("back"))
        return replace(
            graph,
            consts=(*graph.consts, *consts),
            nodes=(*graph.nodes, first, *middle, final),
            outputs=(*graph.outputs, final.output.name),
        )


@dataclass(slots=True)
class _Way:
    """Nodes below a transpose that it can sink under, and what they then read."""

    source: str
    """What the last node of the way computes, under its new name."""
    nodes: list[Node] = field(default_factory=list)
    groups: list[tuple[Node, ...]] = field(default_factory=list)
    """What stands for each of them afterwards."""
    before: Size = (0, 0)
    """Of the transposes that are gone afterwards."""


class _Look:
    """One look at a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers, self.consumers = graph.producers(), graph.consumers()
        self.consts, self.types = graph.const_map(), graph.type_map()
        self.transposes = [n for n in graph.nodes if isinstance(n.attrs, TransposeAttrs)]
        self.why: dict[str, str] = {}
        self.edit = Editor(graph)

    def move(self, node: Node) -> tuple[Graph, Step] | None:
        """Return the graph after a move of this transpose, `None` where it should stay."""
        x, perm = _read(node), _perm(node)
        if moves_nothing(self.types[x].shape, perm):
            view = _turned(Value(x, self.types[x]), perm, node.output)
            self.edit.replace(node, replace(view, location=node.location))
            return self._result(node, "a reshape: it moves axes of size 1 only")
        above = self.producers.get(x)
        if above is not None and isinstance(above.attrs, TransposeAttrs):
            both, first = _compose(_perm(above), perm), _read(above)
            if moves_nothing(self.types[first].shape, both) or self._only_reader(x):
                merged = _turned(Value(first, self.types[first]), both, node.output)
                self.edit.replace(node, replace(merged, location=node.location))
                return self._result(node, f'merged with the transpose "{x}"')
        for reader in self.consumers[node.output.name]:
            found = self._sink(node, reader)
            if found is not None:
                return found
        readers = self.consumers[node.output.name]
        self.why.setdefault(node.output.name, "" if readers else "it is the last node")
        return None

    def _result(self, node: Node, text: str) -> tuple[Graph, Step]:
        return self.edit.result(), Step(node=node.output.name, text=text)

    def _only_reader(self, name: str) -> bool:
        return name not in self.graph.kept and len(self.consumers[name]) == 1

    def _sink(self, node: Node, reader: Node) -> tuple[Graph, Step] | None:
        """Go down from `node` along `reader` until it pays; `None` where it does not."""
        value, perm = node.output.name, _perm(node)
        way = _Way(_read(node))
        if self._only_reader(value):
            way.before = _cost(node.output.type)
        while True:
            reason = self._extend(way, reader, value, perm)
            if reason:
                self.why[node.output.name] = reason
                return None
            before, after = self._balance(way, perm)
            if after < before:
                return self._apply(node, way, perm)
            if len(reader.outputs) > 1 or not self._only_reader(reader.output.name):
                self.why[node.output.name] = f'nothing behind {reader.op} "{value}" undoes it'
                return None
            value, (reader,) = reader.output.name, self.consumers[reader.output.name]

    def _extend(self, way: _Way, reader: Node, value: str, perm: Shape) -> str:
        """Put `reader` on the way; return why it cannot be."""
        op, name = load_ops().op(reader.op), reader.outputs[0].name
        flowing = activations(op, reader)
        if isinstance(reader.attrs, TransposeAttrs):
            return f'the transpose "{name}" behind it turns it further'
        if value not in flowing:
            return f'{reader.op} "{name}" reads it as a constant'
        attrs: Any = op.permuted(reader.attrs, node_types(self.graph, reader), perm)
        if attrs is None:
            return f'{reader.op} "{name}" needs its order of axes'
        names, added, gone = {value: way.source}, [], (0, 0)
        for operand in dict.fromkeys(flowing):
            if operand == value:
                continue
            above, kind = self.producers.get(operand), self.types[operand]
            turned = _permuted(kind, _inverse(perm))
            if (
                above is not None
                and isinstance(above.attrs, TransposeAttrs)
                and _perm(above) == perm
            ):
                names[operand] = _read(above)
                gone = _add(gone, _cost(kind) if self._only_reader(operand) else (0, 0))
            elif moves_nothing(kind.shape, _inverse(perm)) and operand not in self.consts:
                names[operand] = self.edit.fresh(f"{operand}.turned")
                added.append(_reshape(operand, Value(names[operand], turned)))
            elif operand in self.consts:
                data = self.consts[operand].data.transpose(_inverse(perm))
                names[operand] = self.edit.const(f"{operand}.turned", turned, data)
            else:
                return f'{reader.op} "{name}" also reads %{operand}, which is not turned'
        outputs = tuple(
            Value(self.edit.fresh(f"{v.name}.turned"), _permuted(v.type, _inverse(perm)))
            for v in reader.outputs
        )
        inputs = map_inputs(reader.inputs, lambda n: names.get(n, n))
        moved = replace(reader, inputs=inputs, attrs=attrs, outputs=outputs)
        way.nodes.append(reader)
        way.groups.append((*added, moved))
        way.source, way.before = outputs[0].name, _add(way.before, gone)
        return ""

    def _balance(self, way: _Way, perm: Shape) -> tuple[Size, Size]:
        """Return what transposes cost now, and what they would if they sank to the end of the
        way.
        """
        before, after = way.before, (0, 0)
        for old, new in zip(way.nodes[-1].outputs, way.groups[-1][-1].outputs, strict=True):
            behind = self._behind(old.name)
            for node in behind:
                before = _add(before, _cost(node.output.type))
                if not moves_nothing(new.type.shape, _compose(perm, _perm(node))):
                    after = _add(after, _cost(node.output.type))
            if self._read_otherwise(old.name, behind):
                after = _add(after, _cost(old.type))
        return before, after

    def _behind(self, name: str) -> list[Node]:
        return [n for n in self.consumers[name] if isinstance(n.attrs, TransposeAttrs)]

    def _read_otherwise(self, name: str, behind: list[Node]) -> bool:
        return name in self.graph.kept or len(self.consumers[name]) > len(behind)

    def _apply(self, node: Node, way: _Way, perm: Shape) -> tuple[Graph, Step]:
        last, ended = way.nodes[-1], list(way.groups[-1])
        for old, new in zip(last.outputs, ended[-1].outputs, strict=True):
            behind = self._behind(old.name)
            for other in behind:
                composed = _turned(new, _compose(perm, _perm(other)), other.output)
                self.edit.replace(other, replace(composed, location=other.location))
            if self._read_otherwise(old.name, behind):
                way.groups[-1] = (*way.groups[-1], _turned(new, perm, old))
        for reader, group in zip(way.nodes, way.groups, strict=True):
            self.edit.replace(reader, *group)
        through = ", ".join(n.op for n in way.nodes)
        return self._result(node, f'sunk through {through} below "{last.outputs[0].name}"')


def _read(node: Node) -> str:
    assert isinstance(node.inputs, TransposeInputs)
    name: str = node.inputs.x
    return name


def _perm(node: Node) -> Shape:
    assert isinstance(node.attrs, TransposeAttrs)
    return node.attrs.perm


def _compose(first: Shape, second: Shape) -> Shape:
    """Return the permutation of `transpose(transpose(x, first), second)`."""
    return tuple(first[axis] for axis in second)


def _inverse(perm: Shape) -> Shape:
    return tuple(perm.index(axis) for axis in range(len(perm)))


def _permuted(kind: TensorType, perm: Shape) -> TensorType:
    return kind.with_shape(tuple(kind.shape[axis] for axis in perm))


def _cost(kind: TensorType) -> Size:
    return kind.size_bytes, 1


def _add(a: Size, b: Size) -> Size:
    return a[0] + b[0], a[1] + b[1]


def _turned(x: Value, perm: Shape, y: Value) -> Node:
    """Return the transpose, or the reshape that it is."""
    if moves_nothing(x.type.shape, perm):
        return _reshape(x.name, y)
    return Node("transpose", TransposeInputs(x.name), TransposeAttrs(perm), (y,))


def _reshape(x: str, y: Value) -> Node:
    return Node("reshape", ReshapeInputs(x), ReshapeAttrs(y.type.shape[1:]), (y,))


def _transpose(x: Value, perm: Shape, out: str) -> Node:
    y = Value(out, _permuted(x.type, perm))
    return Node("transpose", TransposeInputs(x.name), TransposeAttrs(perm), (y,))


def _middle(
    graph: Graph,
    value: Value,
    perm: Shape,
    turned: Value,
    edit: Editor,
    rng: np.random.Generator,
) -> tuple[list[Node], list[Const]]:
    """Return nodes of the plant between two transposes: a pad, and a join with a second transpose
    or with a stored tensor.
    """
    nodes: list[Node] = []
    consts: list[Const] = []
    last, rank = turned, len(perm)
    if rng.random() < 0.6:
        axis = int(rng.integers(1, rank))
        if rng.random() < 0.5:
            other = _transpose(value, perm, edit.fresh("turned"))
            nodes.append(other)
            name = other.output.name
        else:
            shape, name = last.type.shape, edit.fresh("stored")
            data = rng.integers(0, 100, size=shape)
            consts.append(Const(name, last.type, data))
        doubled = tuple(2 * s if i == axis else s for i, s in enumerate(last.type.shape))
        joined = Value(edit.fresh("joined"), last.type.with_shape(doubled))
        inputs: Any = ConcatInputs((last.name, name))
        nodes.append(Node("concat", inputs, ConcatAttrs(axis), (joined,)))
        last = joined
    if rng.random() < 0.6:
        pads = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, size=(rank - 1, 2)))
        wide = (1, *(s + a + b for s, (a, b) in zip(last.type.shape[1:], pads, strict=True)))
        padded = Value(edit.fresh("padded"), last.type.with_shape(wide))
        nodes.append(Node("pad", PadInputs(last.name), PadAttrs(pads), (padded,)))
    return nodes, consts
