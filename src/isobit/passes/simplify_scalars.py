"""Sums and products with stored tensors: merged, dropped, or taken into the weights before them.

Float graphs: `y = m * x + c` with stored m or c, exact in reals. Integer graphs: a chain of
operators over one int8 value is a function of 256 codes; where that function is the identity, a
clamp or one requantisation, it becomes that. All codes are compared, nothing is approximated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Affine, FloatArray, Pow2, Raw, TensorType
from isobit.ir.edit import Editor, insert_on
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.check import activations
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.codes import CODES, Chain, Functions
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.ops.mul.op import MulAttrs, MulInputs
from isobit.ops.registry import load_ops
from isobit.ops.requantize.exact import equal_to
from isobit.ops.requantize.op import RequantizeAttrs, RequantizeInputs
from isobit.ops.weighted import WeightedInputs, WeightedOp
from isobit.passes.base import Claim, Pass, Rewrite, Step

NUMBER = TensorType((1,), DType.S32, Raw())


class SimplifyScalars(Pass):
    """`(x + c1) + c2 -> x + c`, `(x * c1) * c2 -> x * c`, `x * 1 -> x`, `conv(x) * m + c ->
    conv'(x)`; in integers, chains that are the identity, a clamp or one requantisation.

    Integer graphs keep every bit.
    """

    claim = Claim.ROUNDING
    after = ("drop_noop", "fold_constants", "fuse_clamp", "merge_common")

    @staticmethod
    def run(graph: Graph) -> Rewrite:
        return _reals(graph) if graph.stage is Stage.FLOAT else _codes(graph)

    @staticmethod
    def plant(graph: Graph, rng: np.random.Generator) -> Graph | None:
        """Put sums and products with stored tensors, or a chain of three operators, behind a
        value.
        """
        values = [v for n in graph.nodes for v in n.outputs if len(v.type.shape) > 1]
        if graph.stage is Stage.INT:
            values = [v for v in values if v.type.dtype is DType.S8]
        if not values:
            return None
        value = values[int(rng.integers(len(values)))]
        if graph.stage is Stage.INT:
            return _plant_codes(graph, value, rng)
        return _plant_reals(graph, value, rng)


@dataclass(frozen=True, slots=True)
class _Line:
    """`y = m * x + c` of a float node; m and c have the rank of x, at least one of them one
    entry.
    """

    x: str
    m: FloatArray
    c: FloatArray
    kind: TensorType
    """Of the stored tensor."""

    @property
    def is_identity(self) -> bool:
        """Whether y is x, but for its shape."""
        return bool(np.all(self.m == 1) and np.all(self.c == 0))

    def then(self, other: _Line) -> _Line:
        """Return this line with `other` after it."""
        return _Line(self.x, other.m * self.m, other.m * self.c + other.c, self.kind)


def _line(node: Node, consts: dict[str, Const]) -> _Line | None:
    inputs: Any = node.inputs
    if not isinstance(inputs, AddInputs | MulInputs):
        return None
    stored = [name in consts for name in (inputs.a, inputs.b)]
    if sum(stored) != 1:
        return None
    x, const = (inputs.b, consts[inputs.a]) if stored[0] else (inputs.a, consts[inputs.b])
    data = const.data.astype(np.float64)
    one = np.ones([1] * data.ndim)
    if isinstance(inputs, MulInputs):
        return _Line(x, data, 0 * one, const.type)
    assert isinstance(node.attrs, AddAttrs)
    if not node.attrs.subtract:
        return _Line(x, one, data, const.type)
    return _Line(x, -one, data, const.type) if stored[0] else _Line(x, one, -data, const.type)


def _reals(graph: Graph) -> Rewrite:
    producers, consumers, consts = graph.producers(), graph.consumers(), graph.const_map()
    types, edit = graph.type_map(), Editor(graph)
    done, kept, touched = [], [], set()
    for node in graph.nodes:
        line = _line(node, consts)
        if line is None or line.x in touched:  # what was just rewritten goes on in the next round
            continue
        name, before = node.output.name, producers.get(line.x)
        if line.is_identity and node.output.type.shape == types[line.x].shape:
            reason = edit.refusal(name, line.x)
            if not reason:
                edit.remove(node)
                edit.alias(name, line.x)
                touched.add(name)
                done.append(Step(node=name, text=f"dropped: {node.op} changes nothing"))
                continue
            kept.append(Step(node=name, text=f"{node.op} changes nothing, but {reason}"))
            continue
        if before is None:
            kept.append(Step(node=name, text=f"%{line.x} before it is an input of the network"))
            continue
        if line.kind.dtype is not DType.F64:
            kept.append(Step(node=name, text=f"its constant is {line.kind.dtype.value}, not f64"))
            continue
        if line.x in graph.kept or len(consumers[line.x]) > 1:
            kept.append(Step(node=name, text=f"%{line.x} before it is read elsewhere too"))
            continue
        reason = _merge(node, line, before, consts, edit, types)
        if reason:
            kept.append(Step(node=name, text=reason))
            continue
        touched.add(name)
        done.append(Step(node=name, text=f'merged into {before.op} "{line.x}"'))
    if not done:
        return Rewrite(graph=graph, kept=tuple(kept))
    return Rewrite(graph=edit.result(), done=tuple(done), kept=tuple(kept))


def _merge(
    node: Node,
    line: _Line,
    before: Node,
    consts: dict[str, Const],
    edit: Editor,
    types: dict[str, TensorType],
) -> str:
    """Merge a sum or product into the node before it; return why that is impossible."""
    if issubclass(load_ops().op(before.op), WeightedOp):
        return _into_weights(node, line, before, consts, edit)
    first = _line(before, consts)
    if first is None:
        return f"{before.op} before it has no constants that could take it"
    both = first.then(line)
    operand: Any
    if np.all(np.abs(both.m) == 1) and np.all(both.m == both.m.flat[0]):
        data, minus = both.c, bool(both.m.flat[0] < 0)
    elif np.all(both.c == 0):
        data, minus = both.m, False
    else:
        return f"{before.op} and {node.op} together are neither one sum nor one product"
    if data.size > max(first.m.size, first.c.size, line.m.size, line.c.size):
        return f"{before.op} and {node.op} together need a larger constant"
    if np.broadcast_shapes(types[first.x].shape, data.shape) != node.output.type.shape:
        return f"{before.op} and {node.op} together need a constant of another shape"
    stored = edit.const(f"{node.output.name}.merged", line.kind, data)
    if data is both.m:
        operand, attrs = MulInputs(first.x, stored), MulAttrs()
        edit.replace(node, Node("mul", operand, attrs, node.outputs, node.location))
        return ""
    operand = AddInputs(stored, first.x) if minus else AddInputs(first.x, stored)
    added = AddAttrs(subtract=minus)
    edit.replace(node, Node("add", operand, added, node.outputs, node.location))
    return ""


def _into_weights(
    node: Node, line: _Line, before: Node, consts: dict[str, Const], edit: Editor
) -> str:
    """`m * (w x + b) + c = (m w) x + (m b + c)` where m and c differ by channel only."""
    weights, op = before.inputs, load_ops().op(before.op)
    assert isinstance(weights, WeightedInputs) and issubclass(op, WeightedOp)
    channels = before.output.type.shape[-1]
    flat = [a.size == a.shape[-1] and a.size in (1, channels) for a in (line.m, line.c)]
    if not all(flat) or node.output.type.shape != before.output.type.shape:
        return f"its constant differs within a channel, the weights of {before.op} do not"
    m, c = (np.broadcast_to(a.reshape(-1), channels) for a in (line.m, line.c))
    w = consts[weights.w]
    along = [-1 if i == op.channel_axis else 1 for i in range(w.data.ndim)]
    scaled = edit.const(
        f"{weights.w}.scaled", w.type, w.data.astype(np.float64) * m.reshape(along), w.label
    )
    if np.all(m == 1):
        scaled = weights.w
    b = weights.b
    if b is not None or np.any(c != 0):
        old = consts[b] if b is not None else None
        bias = c if old is None else m * old.data.astype(np.float64) + c
        b = edit.const(f"{weights.w}.bias", line.kind if old is None else old.type, bias)
    inputs = replace(weights, w=scaled, b=b)
    edit.replace(before, replace(before, inputs=inputs, outputs=node.outputs))
    edit.remove(node)
    return ""


def _codes(graph: Graph) -> Rewrite:
    functions, edit, types = Functions(graph), Editor(graph), graph.type_map()
    done, kept, gone = [], [], set()
    for node in reversed(graph.nodes):
        name = node.outputs[0].name
        if name in gone:
            continue
        reason = ""
        for chain in functions.chains(name):
            what, why = _simpler(graph, node, chain, types, edit)
            if what:
                gone |= {one.output.name for one in chain.nodes}
                text = f"{', '.join(n.op for n in chain.nodes)} of %{chain.source}: {what}"
                done.append(Step(node=name, text=f"{text} in all 256 codes"))
                break
            reason = reason or why
        else:
            kept.extend([Step(node=name, text=reason)] if reason else [])
    if not done:
        return Rewrite(graph=graph, kept=tuple(kept[::-1]))
    return Rewrite(graph=edit.result(), done=tuple(done[::-1]), kept=tuple(kept[::-1]))


def _simpler(
    graph: Graph, node: Node, chain: Chain, types: dict[str, TensorType], edit: Editor
) -> tuple[str, str]:
    """Put something simpler in the place of a chain that `node` ends. Return what it is, "" where
    there is nothing simpler, and why not.
    """
    name, source = node.output.name, chain.source
    same, low, high = types[source] == types[name], chain.table.min(), chain.table.max()
    if same and np.array_equal(chain.table, CODES):
        reason = edit.refusal(name, source)
        if reason:
            return "", f"{node.op} changes no code, but {reason}"
        edit.remove(node)
        edit.alias(name, source)
        return "nothing", ""
    if same and np.array_equal(chain.table, np.clip(CODES, low, high)):
        if node.op == "clamp" and len(chain.nodes) == 1:
            return "", ""
        attrs = ClampAttrs(clamp=(int(low), int(high)))
        edit.replace(node, replace(node, op="clamp", inputs=ClampInputs(source), attrs=attrs))
        return "one clamp", ""
    if len(chain.nodes) == 1 and len(activations(load_ops().op(node.op), node)) == 1:
        return "", ""
    found = equal_to(chain.table, types[source], types[name])
    if found is None:
        return "", f"no requantisation of %{source} gives all its 256 codes"
    names = {key: edit.const(f"{name}.{key}", NUMBER, data) for key, data in found[1].items()}
    inputs: Any = RequantizeInputs(source, **names)
    edit.replace(node, replace(node, op="requantize", inputs=inputs, attrs=found[0]))
    return "one requantisation", ""


def _plant_reals(graph: Graph, value: Value, rng: np.random.Generator) -> Graph:
    edit, kind = Editor(graph), value.type
    consts: list[Const] = []
    channels = kind.shape[-1] if rng.random() < 0.5 else 1
    shape = (*[1] * (len(kind.shape) - 1), channels)
    product, nothing = bool(rng.random() < 0.5), bool(rng.random() < 0.3)

    def step(x: str, y: str) -> Node:
        data = rng.uniform(0.5, 1.5, size=shape)
        if nothing:
            data = np.full(shape, 1.0 if product else 0.0)
        consts.append(Const(edit.fresh("planted"), kind.with_shape(shape), data))
        pair = (consts[-1].name, x) if rng.random() < 0.5 and not nothing else (x, consts[-1].name)
        inputs: Any = MulInputs(*pair) if product else AddInputs(*pair)
        attrs = MulAttrs() if product else AddAttrs(subtract=bool(rng.random() < 0.5))
        return Node("mul" if product else "add", inputs, attrs, (Value(y, kind),))

    def make(out: str) -> list[Node]:
        between = [edit.fresh(f"{out}.{i}") for i in range(int(rng.integers(1, 3)))]
        return [step(x, y) for x, y in pairwise([value.name, *between, out])]

    graph = insert_on(graph, value.name, make)
    return replace(graph, consts=(*graph.consts, *consts))


def _plant_codes(graph: Graph, value: Value, rng: np.random.Generator) -> Graph:
    edit, kind = Editor(graph), value.type
    consts: list[Const] = []

    def const(data: list[int] | np.ndarray, dtype: DType) -> str:
        made = np.asarray(data)
        consts.append(Const(edit.fresh("planted"), TensorType(made.shape, dtype, Raw()), made))
        return consts[-1].name

    def requantize(x: str, y: Value, mult: int, shift: int) -> Node:
        inputs: Any = RequantizeInputs(
            x, mult=const([mult], DType.S32), shift=const([shift], DType.S32)
        )
        return Node("requantize", inputs, RequantizeAttrs(), (y,))

    def finer(bits: int) -> TensorType:
        encoding = kind.encoding
        if isinstance(encoding, Pow2):
            return replace(kind, encoding=Pow2((encoding.frac[0] + bits,)))
        assert isinstance(encoding, Affine)
        return replace(kind, encoding=replace(encoding, scale=(encoding.scale[0] / 2**bits,)))

    if rng.random() < 0.5:  # four times, then a half: twice, within fewer codes
        middle, end = Value(edit.fresh("fine"), finer(2)), Value(edit.fresh("end"), finer(1))
        nodes = (requantize(value.name, middle, 4, 0), requantize(middle.name, end, 1, 1))
        return replace(
            graph,
            consts=(*graph.consts, *consts),
            nodes=(*graph.nodes, *nodes),
            outputs=(*graph.outputs, end.name),
        )

    def make(out: str) -> list[Node]:
        low, high = np.sort(rng.integers(-128, 128, size=2)).tolist()
        between, y = Value(edit.fresh("between"), kind), Value(out, kind)
        table = const(np.clip(CODES, low, high), DType.S8)
        first = Node("lut", LutInputs(value.name, table=table), LutAttrs(""), (between,))
        return [first, requantize(between.name, y, 1, 0)]

    graph = insert_on(graph, value.name, make)
    return replace(graph, consts=(*graph.consts, *consts))
