"""Computes what depends on stored tensors alone, once and here: shapes and scales of foreign
graphs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import AnyArray
from isobit.ir.edit import Editor
from isobit.ir.graph import Const, Graph, Node, Stage, Value, map_inputs
from isobit.ops.base import is_float
from isobit.ops.check import activations, node_types
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.registry import load_ops
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.split.op import SplitAttrs, SplitInputs
from isobit.ops.transpose.op import TransposeAttrs, TransposeInputs
from isobit.passes.base import Pass, Rewrite, Step


class FoldConstants(Pass):
    """`op(c) -> c'` where every activation operand is a stored tensor, by the operator's own
    definition: `Op.integer` or `Op.real`.
    """

    after = ("drop_noop",)

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        edit, done, kept = Editor(graph), [], []
        known = {const.name: const.data for const in graph.consts}
        stored: dict[str, str] = {}
        for node in graph.nodes:
            op, name = load_ops().op(node.op), node.outputs[0].name
            flowing = activations(op, node)
            if not flowing or any(operand not in known for operand in flowing):
                continue
            results = _compute(graph, node, known)
            reason = _obstacle(graph, node, results)
            if reason:
                kept.append(Step(node=name, text=reason))
                continue
            for value, data in zip(node.outputs, results, strict=True):
                known[value.name] = data.astype(value.type.dtype.numpy)
                constant = edit.const(f"{value.name}.stored", value.type, data, value.name)
                edit.alias(value.name, constant)
                stored[value.name] = constant
            edit.remove(node)
            done.append(Step(node=name, text=f"computed: {node.op} of stored tensors only"))
        if not done:
            return Rewrite(graph=graph, kept=tuple(kept))
        return Rewrite(graph=edit.result(), done=tuple(done), kept=tuple(kept))

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Join a value with what one to four nodes make of a stored tensor of its type."""
        values = [v for n in graph.nodes for v in n.outputs if len(v.type.shape) > 1]
        if graph.stage is Stage.INT:
            values = [v for v in values if v.type.dtype.is_integer]
        if not values:
            return None
        value, edit = values[int(rng.integers(len(values)))], Editor(graph)
        kind = value.type
        data: AnyArray
        if kind.dtype.is_integer:
            data = rng.integers(kind.dtype.low, kind.dtype.high + 1, size=kind.shape)
        else:
            data = rng.normal(size=kind.shape)
        const = Const(edit.fresh("stored"), kind, data)
        last, nodes = Value(const.name, kind), []
        for _ in range(int(rng.integers(1, 4))):
            made = _node(last, edit, rng, clamps=kind.dtype.is_integer)
            nodes.append(made)
            last = made.outputs[0]
        final = _reshaped(last, edit, kind.shape)
        joined = Value(
            edit.fresh("joined"), kind.with_shape((*kind.shape[:-1], 2 * kind.shape[-1]))
        )
        inputs: Any = ConcatInputs((value.name, final.output.name))
        concat = Node("concat", inputs, ConcatAttrs(len(kind.shape) - 1), (joined,))
        return Graph(
            name=graph.name,
            stage=graph.stage,
            target=graph.target,
            inputs=graph.inputs,
            consts=(*graph.consts, const),
            states=graph.states,
            nodes=(*graph.nodes, *nodes, final, concat),
            outputs=(*graph.outputs, joined.name),
        )


def _compute(graph: Graph, node: Node, known: dict[str, AnyArray]) -> tuple[AnyArray, ...]:
    """Return the node's results, as the golden model computes them for one sample."""
    op = load_ops().op(node.op)

    def operand(name: str) -> AnyArray:
        data = known[name]
        if graph.stage is Stage.FLOAT:
            return data.astype(np.float64)
        # Floats of an integer graph are bits to keep.
        return data if data.dtype.kind == "f" else data.astype(np.int64)

    inputs: Any = map_inputs(node.inputs, operand)
    result: Any
    if graph.stage is Stage.FLOAT:
        result = op.real(node.attrs, inputs)
    else:
        result = op.integer(node.attrs, node_types(graph, node), inputs)
    return result if isinstance(result, tuple) else (result,)


def _obstacle(graph: Graph, node: Node, results: tuple[AnyArray, ...]) -> str:
    for value, data in zip(node.outputs, results, strict=True):
        if value.name in graph.kept:
            return f"%{value.name} is an output of the network, which a node must compute"
        rounds = is_float(value.type) and value.type.dtype is DType.F32
        if rounds and not np.array_equal(data.astype(np.float32), data, equal_nan=True):
            return f"%{value.name} is no float32, which it would be stored as"
    return ""


def _node(last: Value, edit: Editor, rng: np.random.Generator, *, clamps: bool) -> Node:
    """Return a node that computes something of the same number of elements, or a part of it."""
    kind, shape = last.type, last.type.shape
    match int(rng.integers(4 if clamps else 3)):
        case 0:
            return _reshaped(last, edit, (1, kind.elements))
        case 1:
            perm = (0, *(rng.permutation(len(shape) - 1) + 1).tolist())
            turned = kind.with_shape(tuple(shape[axis] for axis in perm))
            out = (Value(edit.fresh("turned"), turned),)
            return Node("transpose", TransposeInputs(last.name), TransposeAttrs(perm), out)
        case 2:
            out = (Value(edit.fresh("whole"), kind),)
            sizes = (shape[-1],)
            return Node("split", SplitInputs(last.name), SplitAttrs(len(shape) - 1, sizes), out)
        case _:
            low, high = kind.dtype.low, kind.dtype.high
            bounds = np.sort(rng.integers(low, high + 1, size=2)).tolist()
            attrs = ClampAttrs(clamp=(bounds[0], bounds[1]))
            out = (Value(edit.fresh("clamped"), kind),)
            return Node("clamp", ClampInputs(last.name), attrs, out)


def _reshaped(last: Value, edit: Editor, shape: tuple[int, ...]) -> Node:
    out = (Value(edit.fresh("shaped"), last.type.with_shape(shape)),)
    return Node("reshape", ReshapeInputs(last.name), ReshapeAttrs(shape[1:]), out)
