"""Random networks of operators that move, join and divide tensors, and their execution inside an
arena.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Pow2, TensorType
from isobit.ir.graph import Graph, Node, Stage, Value, map_inputs, operands
from isobit.ops.check import node_types
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.max_pool2d.op import MaxPool2dAttrs, MaxPool2dInputs
from isobit.ops.registry import load_ops
from isobit.ops.reshape.op import ReshapeAttrs, ReshapeInputs
from isobit.ops.split.op import SplitAttrs, SplitInputs
from isobit.plan.plan import Plan

ENCODING = Pow2((5,))


def random_graph(seed: int) -> Graph:
    """A graph with branches, views of views, several outputs, values read late and values never
    read.
    """
    rng = np.random.default_rng(seed)
    build = Builder()
    build.add("x", (1, int(rng.integers(1, 6)), int(rng.integers(1, 6)), int(rng.integers(1, 7))))
    for _ in range(int(rng.integers(2, 9))):
        build.step(rng)
    names = list(build.types)
    late = [str(n) for n in rng.choice(names[1:], size=min(2, len(names) - 1), replace=False)]
    outputs = tuple(dict.fromkeys([names[-1], *late[: int(rng.integers(0, 3))]]))
    source = Value("x", build.types["x"])
    return Graph(
        name="n", stage=Stage.INT, inputs=(source,), nodes=tuple(build.nodes), outputs=outputs
    )


class Builder:
    """Appends nodes."""

    def __init__(self) -> None:
        self.types: dict[str, TensorType] = {}
        self.nodes: list[Node] = []

    def add(self, name: str, shape: tuple[int, ...]) -> Value:
        self.types[name] = TensorType(shape, DType.S8, ENCODING)
        return Value(name, self.types[name])

    def node(self, op: str, inputs: Any, attrs: Any) -> None:
        inferred = load_ops().op(op).outputs_of(attrs, map_inputs(inputs, lambda n: self.types[n]))
        values = [
            self.add(f"v{len(self.nodes)}_{i}", found.shape) for i, found in enumerate(inferred)
        ]
        self.nodes.append(Node(op, inputs, attrs, tuple(values)))

    def step(self, rng: np.random.Generator) -> None:
        """One node on random values, mostly recent ones."""
        names = list(self.types)
        x = names[max(0, len(names) - 1 - int(rng.integers(0, 4)))]
        shape = self.types[x].shape
        choice = int(rng.integers(6))
        if choice == 0 or len(shape) == 2:
            if len(shape) == 2 and rng.integers(2):
                self.node("reshape", ReshapeInputs(x), ReshapeAttrs((shape[1], 1, 1)))
                return
            self.node("clamp", ClampInputs(x), ClampAttrs(clamp=(-50, 90)))
        elif choice == 1:
            self.node("reshape", ReshapeInputs(x), ReshapeAttrs((int(np.prod(shape[1:])),)))
        elif choice == 2 and shape[3] > 1:
            first = int(rng.integers(1, shape[3]))
            self.node("split", SplitInputs(x), SplitAttrs(3, (first, shape[3] - first)))
        elif choice == 3:
            same = [
                n
                for n, kind in self.types.items()
                if kind.shape[:3] == shape[:3] and len(kind.shape) == 4
            ]
            others = tuple(str(rng.choice(same)) for _ in range(int(rng.integers(1, 3))))
            self.node("concat", ConcatInputs((x, *others)), ConcatAttrs(3))
        else:
            size = (min(2, shape[1]), min(2, shape[2]))
            stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
            self.node("max_pool2d", MaxPool2dInputs(x), MaxPool2dAttrs(size, stride))


def execute(plan: Plan, seed: int) -> dict[str, np.ndarray]:
    """Run a plan's nodes on one byte array, as the generated C does; return the outputs found there
    at the end.

    A kernel is its operator's definition, reading everything before it writes: what is seen is the
    placement alone. Scratch is overwritten, so that nothing can hide in it.
    """
    rng = np.random.default_rng(seed)
    graph, registry = plan.graph, load_ops()
    types = graph.type_map()
    top = max([plan.arena_bytes, *(b.end for b in plan.buffers.values())])
    arena = rng.integers(-128, 128, size=top + 64).astype(np.int8)

    def view(name: str) -> np.ndarray:
        kind = types[name]
        offset = plan.buffers[name].offset
        return arena[offset : offset + kind.elements].reshape(kind.shape)

    for value in graph.inputs:
        view(value.name)[...] = inputs(graph, seed)[value.name]
    for step in plan.nodes:
        if step.kernel is None:
            continue
        given = map_inputs(step.node.inputs, lambda n: view(n).astype(np.int64))
        result = registry.op(step.node.op).integer(
            step.node.attrs, node_types(graph, step.node), given
        )
        if step.scratch is not None:
            arena[step.scratch.offset : step.scratch.end] = rng.integers(
                -128, 128, size=step.scratch.size_bytes
            )
        arrays = result if isinstance(result, tuple) else (result,)
        for value, array in zip(step.node.outputs, arrays, strict=True):
            view(value.name)[...] = array
    return {name: view(name).copy() for name in graph.outputs}


def inputs(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """Input codes."""
    rng = np.random.default_rng([seed, 1])
    return {
        v.name: rng.integers(-128, 128, size=v.type.shape).astype(np.int8) for v in graph.inputs
    }


def golden(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """The outputs by definition, every value in memory of its own."""
    values: dict[str, Any] = dict(inputs(graph, seed))
    for node in graph.nodes:
        given = map_inputs(node.inputs, lambda n: values[n].astype(np.int64))
        result = load_ops().op(node.op).integer(node.attrs, node_types(graph, node), given)
        for value, array in zip(
            node.outputs, result if isinstance(result, tuple) else (result,), strict=True
        ):
            values[value.name] = array
    return {name: values[name].astype(np.int8) for name in graph.outputs}


def readers(graph: Graph, name: str) -> int:
    """How often a value is read."""
    return sum(operand == name for node in graph.nodes for operand in operands(node.inputs))
