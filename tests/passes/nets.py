"""Small graphs written node by node, for one rewrite each."""

from __future__ import annotations

from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Affine, AnyArray, Encoding, Raw, Real, TensorType
from isobit.ir.graph import Attrs, Const, Graph, Inputs, Node, Stage, Value, map_inputs
from isobit.ops.check import check
from isobit.ops.registry import load_ops
from isobit.passes.base import Rewrite, load_passes
from isobit.run.golden import run_golden

STEP = Affine((0.05,), -9)
NUMBER = TensorType((1,), DType.S32, Raw())


class Net:
    """A graph in the making; every call returns the name of the value it added."""

    def __init__(self, shape: tuple[int, ...], *, real: bool = False) -> None:
        self.real = real
        kind = TensorType((1, *shape), DType.F64, Real()) if real else self.codes(shape)
        self.inputs = (Value("x", kind),)
        self.types = {"x": kind}
        self.consts: list[Const] = []
        self.nodes: list[Node] = []

    @staticmethod
    def codes(shape: tuple[int, ...], encoding: Encoding = STEP) -> TensorType:
        return TensorType((1, *shape), DType.S8, encoding)

    def const(self, data: Any, kind: TensorType | None = None) -> str:
        """A stored tensor; without a type one of reals."""
        array = np.asarray(data)
        name = f"c{len(self.consts)}"
        base = TensorType(array.shape, DType.F64, Real()) if kind is None else kind
        self.consts.append(Const(name, base.with_shape(array.shape), array))
        self.types[name] = self.consts[-1].type
        return name

    def number(self, value: int) -> str:
        return self.const([value], NUMBER)

    def add(
        self, op: str, inputs: Inputs[str], attrs: Attrs, encoding: Encoding = STEP, name: str = ""
    ) -> str:
        """A node with one output; `encoding` where its operator leaves it open."""
        types: Any = map_inputs(inputs, lambda n: self.types[n])
        (inferred,) = load_ops().op(op).outputs_of(attrs, types)
        own = inferred.encoding or (Real() if self.real else encoding)
        name = name or f"{op}{len(self.nodes)}"
        self.types[name] = TensorType(inferred.shape, inferred.dtype, own)
        self.nodes.append(Node(op, inputs, attrs, (Value(name, self.types[name]),)))
        return name

    def graph(self, *outputs: str) -> Graph:
        found = Graph(
            name="net",
            stage=Stage.FLOAT if self.real else Stage.INT,
            inputs=self.inputs,
            consts=tuple(self.consts),
            nodes=tuple(self.nodes),
            outputs=outputs,
        )
        check(found)
        return found


def run(name: str, graph: Graph) -> Rewrite:
    """The pass `name` on a graph, whose outputs it must not change (reals: up to rounding)."""
    rewrite = load_passes()[name].run(graph)
    check(rewrite.graph)
    x = inputs_of(graph)
    before, after = run_golden(graph, x), run_golden(rewrite.graph, x)
    for output in graph.outputs:
        if graph.stage is Stage.FLOAT:
            assert np.allclose(before[output], after[output], rtol=1e-12, atol=1e-12)
        else:
            assert np.array_equal(before[output], after[output])
    return rewrite


def inputs_of(graph: Graph) -> AnyArray:
    """Samples of a graph's only input: all codes in turn, or random reals."""
    kind = graph.inputs[0].type
    count = 7
    if graph.stage is Stage.FLOAT:
        return np.random.default_rng(1).normal(size=(count, *kind.shape[1:]))
    codes = np.arange(count * kind.elements) * 37 % 256 - 128
    return codes.astype(np.int8).reshape(count, *kind.shape[1:])


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]
