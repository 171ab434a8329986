"""Unrolled LSTMs as converters write them, for tests of what finds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from isobit.core.types import AnyArray, FloatArray
from isobit.ir.edit import Editor
from isobit.ir.graph import Attrs, Const, Graph, Inputs, Node, Value
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.linear.op import LinearAttrs
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.ops.mul.op import MulAttrs, MulInputs
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.split.op import SplitAttrs, SplitInputs
from isobit.ops.strided_slice.op import StridedSliceAttrs, StridedSliceInputs
from isobit.ops.weighted import WeightedInputs

ORDERS = ("ifgo", "iofg", "fgio")
"""Of PyTorch and Keras, of ONNX, and another."""


def spelled(
    graph: Graph, x: Value, out: str, rng: np.random.Generator, consts: list[Const]
) -> list[Node]:
    """Return nodes that compute `out`, of the type of x, through two to four steps over x [T*I];
    add their constants to `consts`.

    One product and a split, or one slice for each gate, or four products; x and h joined before or
    multiplied apart; with or without a state of stored zeros in the first step.
    """
    count = x.type.elements
    steps = int(rng.integers(2, min(count, 4) + 1))
    write = _Writer(graph, x, rng, consts)
    flat = write.node("reshape", ReshapeInputs(x.name), ReshapeAttrs((count,)), count)
    inputs = count // steps
    h = write.sequence([write.part(flat, t * inputs, inputs) for t in range(steps)], inputs)
    size = write.sizes[h]
    back = write.linear(h, [rng.normal(size=(count, size))], [rng.normal(size=count)])
    attrs = ReshapeAttrs(x.type.shape[1:])
    nodes: list[Node] = write.nodes
    nodes.append(Node("reshape", ReshapeInputs(back), attrs, (Value(out, x.type),)))
    return nodes


class _Writer:
    def __init__(
        self, graph: Graph, x: Value, rng: np.random.Generator, consts: list[Const]
    ) -> None:
        self.edit, self.kind, self.rng, self.consts = Editor(graph), x.type, rng, consts
        self.nodes: list[Node] = []
        self.sizes = {x.name: x.type.elements}
        self.order = str(rng.choice(ORDERS))
        self.joins, self.four, self.slices, self.zeros = (bool(b) for b in rng.integers(0, 2, 4))

    def sequence(self, xs: Sequence[str], inputs: int) -> str:
        """Write one step for each x; return the last hidden state."""
        size, rng = int(self.rng.integers(1, 5)), self.rng
        w, r = rng.normal(size=(4 * size, inputs)), rng.normal(size=(4 * size, size))
        r, b = r / np.sqrt(size), rng.normal(size=4 * size)
        h = c = self.const(np.zeros((1, size))) if self.zeros else ""
        for x in xs:
            gates = dict(zip(self.order, self.sums(x, h, (w, r, b), size), strict=True))
            i, f, o = (self.apply("sigmoid", gates[k]) for k in "ifo")
            new = self.times(i, self.apply("tanh", gates["g"]))
            c = self.plus(self.times(f, c), new) if c else new
            h = self.times(o, self.apply("tanh", c))
        return h

    def sums(
        self, x: str, h: str, weights: tuple[FloatArray, FloatArray, FloatArray], size: int
    ) -> list[str]:
        """Write what the gates sum, in the order of the rows."""
        w, r, b = weights
        rows = [slice(k * size, (k + 1) * size) for k in range(4)] if self.four else [slice(None)]
        if self.joins and h:
            x = self.node("concat", ConcatInputs((x, h)), ConcatAttrs(1), self.sizes[x] + size)
            found = [self.linear(x, [w[own], r[own]], [b[own]]) for own in rows]
        else:
            found = [self.linear(x, [w[own]], [b[own]]) for own in rows]
            if h:
                back = [self.linear(h, [r[own]], []) for own in rows]
                found = [self.plus(a, b) for a, b in zip(found, back, strict=True)]
        if self.four:
            return found
        if self.slices:
            return [self.part(found[0], k * size, size) for k in range(4)]
        values = tuple(self.value(size) for _ in range(4))
        attrs = SplitAttrs(1, (size,) * 4)
        self.nodes.append(Node("split", SplitInputs(found[0]), attrs, values))
        return [value.name for value in values]

    def value(self, size: int) -> Value:
        name = self.edit.fresh("unrolled")
        self.sizes[name] = size
        return Value(name, self.kind.with_shape((1, size)))

    def node(self, op: str, inputs: Inputs[Any], attrs: Attrs, size: int) -> str:
        value = self.value(size)
        self.nodes.append(Node(op, inputs, attrs, (value,)))
        return value.name

    def const(self, data: AnyArray) -> str:
        name = self.edit.fresh("unrolled.c")
        self.consts.append(Const(name, self.kind.with_shape(data.shape), data))
        self.sizes[name] = data.size
        return name

    def linear(self, x: str, w: Sequence[FloatArray], b: Sequence[FloatArray]) -> str:
        stacked = np.concatenate(w, axis=1)
        bias = self.const(b[0]) if b else None
        inputs = WeightedInputs(x, self.const(stacked), bias)
        return self.node("linear", inputs, LinearAttrs(), len(stacked))

    def part(self, x: str, first: int, size: int) -> str:
        attrs = StridedSliceAttrs((first,), (1,), (size,))
        return self.node("strided_slice", StridedSliceInputs(x), attrs, size)

    def apply(self, function: str, x: str) -> str:
        return self.node("lut", LutInputs(x), LutAttrs(function), self.sizes[x])

    def times(self, a: str, b: str) -> str:
        return self.node("mul", MulInputs(a, b), MulAttrs(), self.sizes[a])

    def plus(self, a: str, b: str) -> str:
        return self.node("add", AddInputs(a, b), AddAttrs(), self.sizes[a])
