"""Unrolled LSTM cells with the same stored weights become one `lstm` over the sequence."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from isobit.core.types import IntArray
from isobit.ir.edit import Editor, insert_on
from isobit.ir.graph import Const, Graph, Node, Stage, Value, operands
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.lstm.cells import Cell, chains
from isobit.ops.lstm.forms import Forms
from isobit.ops.lstm.op import GATES, LstmAttrs, LstmInputs
from isobit.ops.lstm.unrolled import spelled
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.strided_slice.op import StridedSliceAttrs, StridedSliceInputs
from isobit.ops.transpose.op import TransposeAttrs, TransposeInputs
from isobit.passes.base import Claim, Pass, Rewrite, Step

Maker = Callable[..., Value]
"""From a name and the sizes after the batch."""
APART = "what its steps read are no equal pieces of one value, nor whole values"


class FuseRecurrent(Pass):
    """`h = sigmoid(o) * tanh(c)` of two steps or more from zero -> `lstm`; steps that others read
    become slices of the sequence.

    The same products are summed in another order, and sigmoid is computed through tanh, which is
    off by 2^-51; the functions behind them have slopes of at most 1.
    """

    claim = Claim.ROUNDING
    stages = frozenset({Stage.FLOAT})
    after = ("drop_noop", "fold_constants", "merge_views", "simplify_scalars")

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        done: list[Step] = []
        while True:
            kept: list[Step] = []
            found = None
            for forms, chain in chains(graph):
                last = chain[-1].h
                found = _fused(graph, forms, chain)
                if isinstance(found, Graph):
                    done.append(Step(node=last, text=f"{len(chain)} cells are one lstm"))
                    break
                kept.append(Step(node=last, text=found))
            if not isinstance(found, Graph):
                return Rewrite(graph=graph, done=tuple(done), kept=tuple(kept))
            graph = found

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Put an unrolled LSTM behind a value, in one of the usual spellings.

        Not behind one with copies of an element: weights of copies are one weight of the element,
        and steps that are copied unlike have unlike weights.
        """
        values = [v for n in graph.nodes for v in n.outputs if v.type.elements > 1]
        if not values:
            return None
        value = values[int(rng.integers(len(values)))]
        ids = Forms(graph).ids(value.name)
        if len(np.unique(ids)) < len(ids):
            return None
        consts: list[Const] = []
        planted = insert_on(graph, value.name, lambda out: spelled(graph, value, out, rng, consts))
        return replace(planted, consts=(*planted.consts, *consts))


def _fused(graph: Graph, forms: Forms, chain: Sequence[Cell]) -> Graph | str:
    """Return the graph with one `lstm` for a chain, or why there cannot be one."""
    last, kinds = chain[-1], graph.type_map()
    if any(not cell.continues(last) for cell in chain[:-1]):
        return "its steps have different weights"
    if np.isnan(last.b).any():
        return "its steps have different gates"
    edit = Editor(graph)
    found = _sequence(edit, graph, forms, chain)
    if found is None:
        return APART
    x, nodes = found
    size, kind = last.b.shape[1], kinds[last.h]
    stacked = {"w": last.w, "r": last.r}
    arrays = {name: data.reshape(GATES * size, -1) for name, data in stacked.items()}
    consts = [
        Const(edit.fresh(f"{last.h}.{name}"), kind.with_shape(data.shape), data)
        for name, data in (*arrays.items(), ("b", last.b.reshape(-1)))
    ]
    shapes = {"sequence": (1, 1, len(chain), size), "hidden": (1, 1, size), "cell": (1, 1, size)}
    y, hidden, cell = (
        Value(edit.fresh(f"{last.h}.{what}"), kind.with_shape(shape))
        for what, shape in shapes.items()
    )
    inputs = LstmInputs(x, None, None, *(const.name for const in consts))
    origin = graph.producers()[last.h].location
    nodes.append(Node("lstm", inputs, LstmAttrs(), (y, hidden, cell), origin))
    nodes += [_view(cell, Value(last.c, kinds[last.c])), _view(hidden, Value(last.h, kind))]
    for step, one in enumerate(chain[:-1]):
        part = Value(edit.fresh(f"{one.h}.step"), kind.with_shape((1, 1, 1, size)))
        attrs = StridedSliceAttrs((0, step, 0), (1, 1, 1), (1, 1, size))
        nodes.append(Node("strided_slice", StridedSliceInputs(y.name), attrs, (part,)))
        nodes.append(_view(part, Value(one.h, kinds[one.h])))
    every = np.concatenate([forms.ids(one.h) for one in chain])
    for node in graph.nodes:  # a join of all steps is the sequence itself
        if node.op == "concat" and _equal(forms.ids(node.output.name), every):
            nodes.append(_view(y, node.output))
    ordered = _ordered(graph, nodes)
    if ordered is None:
        return "a step reads what follows from the step before it"
    whole = replace(graph, nodes=ordered, consts=(*graph.consts, *consts))
    result = Editor(whole).result()
    left = result.producers()
    for one in chain[:-1]:
        if one.c in left:
            return f"%{one.c}, the cell state of a step before the last, is read elsewhere"
    return result


def _view(x: Value, y: Value) -> Node:
    return Node("reshape", ReshapeInputs(x.name), ReshapeAttrs(y.type.shape[1:]), (y,))


def _sequence(
    edit: Editor, graph: Graph, forms: Forms, chain: Sequence[Cell]
) -> tuple[str, list[Node]] | None:
    """Return the value [1,1,T,I] that the steps read, and the nodes that make it: pieces of one
    value, else a join of whole ones; `None` where there is neither.
    """
    count, size = len(chain), len(chain[0].x)
    wanted = np.stack([cell.x for cell in chain])
    values = [*graph.inputs, *(value for node in graph.nodes for value in node.outputs)]

    def value(tag: str, *shape: int) -> Value:
        return Value(edit.fresh(f"{chain[-1].h}.{tag}"), values[0].type.with_shape((1, *shape)))

    for source in values:
        found = forms.places(source.name, wanted) if source.type.elements >= wanted.size else None
        made = None if found is None else _pieces(value, source, found)
        if made is not None:
            return made[-1].output.name, made
    nodes: list[Node] = []
    parts: list[str] = []
    for own in wanted:
        whole = [v for v in values if v.type.elements == size and _equal(forms.ids(v.name), own)]
        if not whole:
            return None
        part = value("step", 1, 1, size)
        nodes.append(_view(whole[0], part))
        parts.append(part.name)
    joined = value("steps", 1, count, size)
    nodes.append(Node("concat", ConcatInputs(tuple(parts)), ConcatAttrs(2), (joined,)))
    return joined.name, nodes


def _equal(a: IntArray, b: IntArray) -> bool:
    return np.array_equal(a, b)


def _pieces(value: Maker, source: Value, places: IntArray) -> list[Node] | None:
    """Return nodes that make [1,1,T,I] of the elements `places` [T,I] of one value: a run of it, or
    evenly spaced rows or columns.
    """
    (count, size), elements = places.shape, source.type.elements
    start, across, rows = int(places[0, 0]), np.arange(size), elements // size
    nodes: list[Node] = []
    if np.array_equal(places.reshape(-1), start + np.arange(count * size)):
        if count * size < elements:
            flat, run = value("flat", elements), value("run", count * size)
            attrs = StridedSliceAttrs((start,), (1,), (count * size,))
            nodes.append(_view(source, flat))
            nodes.append(Node("strided_slice", StridedSliceInputs(flat.name), attrs, (run,)))
            source = run
        return [*nodes, _view(source, value("steps", 1, count, size))]
    if elements % size:
        return None
    if np.array_equal(places, places[:, :1] + across) and not (places[:, 0] % size).any():
        order = places[:, 0] // size
    elif np.array_equal(places, places[:, :1] + across * rows) and int(places[:, 0].max()) < rows:
        order = places[:, 0]
        columns, turned = value("columns", size, rows), value("turned", rows, size)
        nodes.append(_view(source, columns))
        inputs, swapped = TransposeInputs(columns.name), TransposeAttrs((0, 2, 1))
        nodes.append(Node("transpose", inputs, swapped, (turned,)))
        source = turned
    else:
        return None
    whole = value("rows", 1, rows, size)
    nodes.append(_view(source, whole))
    if order.tolist() == list(range(rows)):
        return nodes
    strides = set(np.diff(order).tolist())
    if len(strides) != 1 or 0 in strides:
        return None
    taken = StridedSliceAttrs((0, int(order[0]), 0), (1, strides.pop(), 1), (1, count, size))
    part = value("steps", 1, count, size)
    return [*nodes, Node("strided_slice", StridedSliceInputs(whole.name), taken, (part,))]


def _ordered(graph: Graph, nodes: Sequence[Node]) -> tuple[Node, ...] | None:
    """Return the graph's nodes with `nodes` instead of those that computed the same values, every
    node behind what it reads and otherwise as before; `None` where nodes wait for each other.
    """
    new = {value.name for node in nodes for value in node.outputs}
    rest = [n for n in graph.nodes if all(value.name not in new for value in n.outputs)]
    every = [*rest, *nodes]
    maker = {value.name: at for at, node in enumerate(every) for value in node.outputs}
    needs = [{maker[name] for name in operands(n.inputs) if name in maker} for n in every]
    readers: list[list[int]] = [[] for _ in every]
    for at, own in enumerate(needs):
        for before in own:
            readers[before].append(at)
    waiting = [len(own) for own in needs]
    ready = [at for at, count in enumerate(waiting) if not count]
    ordered: list[Node] = []
    while ready:
        at = heapq.heappop(ready)
        ordered.append(every[at])
        for reader in readers[at]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    return tuple(ordered) if len(ordered) == len(every) else None
