"""Random float graphs: the structure of random integer graphs with real numbers in it."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import Real, TensorType
from isobit.ir.graph import Const, Graph, Node, Stage, Value
from isobit.ops.add.op import AddAttrs
from isobit.ops.base import Op
from isobit.ops.pad.op import PadAttrs
from isobit.ops.registry import load_ops
from isobit.run.golden import run_golden
from property.graphs import draw

INTEGER_ONLY = {"quantize", "dequantize", "requantize", "standardize", "mean_image", "lut"}
UNBOUNDED = {"per_image_standardize"}
"""Divides by what may be small: `rounding_bound` says nothing of it."""


def is_dynamic(graph: Graph) -> bool:
    """Whether steps are found at run time: a pattern cannot be planted on just any value then."""
    return any(node.op.startswith("dynamic_") for node in graph.nodes)


def floated(seed: int) -> Graph | None:
    """Return the float graph with the structure of `draw(seed)`; `None` where an operator has no
    meaning in reals.
    """
    graph = draw(seed).graph
    if is_dynamic(graph) or any(node.op in INTEGER_ONLY | UNBOUNDED for node in graph.nodes):
        return None
    rng = np.random.default_rng([21, seed])
    consts = tuple(Const(c.name, real(c.type), rng.normal(size=c.type.shape)) for c in graph.consts)
    nodes = tuple(_node(node, load_ops().op(node.op)) for node in graph.nodes)
    read = {getattr(n.inputs, f.name) for n in nodes for f in fields(n.inputs)}
    return replace(
        graph,
        stage=Stage.FLOAT,
        inputs=tuple(Value(v.name, real(v.type)) for v in graph.inputs),
        consts=tuple(c for c in consts if c.name in read),
        nodes=nodes,
    )


def real(kind: TensorType) -> TensorType:
    """The same shape in float64."""
    return TensorType(kind.shape, DType.F64, Real())


def _node(node: Node, op: type[Op]) -> Node:
    # Keyword-only operands follow from encodings: multipliers, shifts, tables.
    names = {f.name for f in fields(node.inputs) if f.kw_only}
    attrs = replace(node.attrs, value=None) if isinstance(node.attrs, PadAttrs) else node.attrs
    return replace(
        node,
        inputs=replace(node.inputs, **dict.fromkeys(names)),
        attrs=attrs,
        outputs=tuple(Value(v.name, real(v.type)) for v in node.outputs),
    )


def rounding_bound(graph: Graph, x: np.ndarray) -> float:
    """How far two orders of evaluation in float64 may lie apart (Higham 2002, section 3.1).

    A sum of n products differs from the exact one by at most n * 2^-52 * (sum of absolute
    products). The largest such sum is had by running the graph on absolute inputs and constants;
    errors add up along at most all nodes.
    """
    magnitude = replace(
        graph,
        consts=tuple(replace(c, data=_magnitude(graph, c)) for c in graph.consts),
        nodes=tuple(_summed(node) for node in graph.nodes),
    )
    values = run_golden(magnitude, np.abs(x))
    largest = max(float(np.abs(v).max()) for v in values.values())
    terms = sum(c.data.size for c in graph.consts) + sum(
        v.type.elements for n in graph.nodes for v in n.outputs
    )
    return terms * 2.0**-52 * max(largest, 1.0)


def _summed(node: Node) -> Node:
    """A difference of absolute values would cancel instead of adding."""
    attrs = replace(node.attrs, subtract=False) if isinstance(node.attrs, AddAttrs) else node.attrs
    return replace(node, attrs=attrs)


def _magnitude(graph: Graph, const: Const) -> np.ndarray:
    # A mean is subtracted: its absolute value would cancel instead of adding.
    subtracted = any(getattr(n.inputs, "mean", None) == const.name for n in graph.nodes)
    return -np.abs(const.data) if subtracted else np.abs(const.data)
