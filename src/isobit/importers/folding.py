"""Operators whose inputs are all stored tensors: computed when the file is read, by the operator's
own definition.

Converters leave them where a shape is computed (STRIDED_SLICE, PACK, then RESHAPE).
"""

from __future__ import annotations

import numpy as np

from isobit.core.errors import raise_all
from isobit.core.types import AnyArray
from isobit.ir.builder import GraphBuilder
from isobit.ir.graph import Stage, map_inputs
from isobit.ops.check import node_problems, node_types
from isobit.ops.registry import load_ops


def evaluate(build: GraphBuilder) -> dict[str, AnyArray]:
    """Return what every node of a graph without inputs computes, in the carriers' dtypes.

    Raises what is wrong with the types around a node.
    """
    graph = build.graph()
    values: dict[str, AnyArray] = {const.name: const.data for const in graph.consts}
    for node in graph.nodes:
        raise_all(list(node_problems(graph, node, load_ops())))
        op, q = load_ops().op(node.op), node_types(graph, node)
        inputs = map_inputs(node.inputs, lambda name: _wide(values[name]))
        result = (
            op.integer(node.attrs, q, inputs)
            if build.stage is Stage.INT
            else op.real(node.attrs, inputs)
        )
        results = result if isinstance(result, tuple) else (result,)
        for value, array in zip(node.outputs, results, strict=True):
            values[value.name] = np.asarray(array).astype(value.type.dtype.numpy)
    return values


def _wide(data: AnyArray) -> AnyArray:
    """The dtypes that the definitions compute in."""
    return data.astype(np.int64) if data.dtype.kind in "iu" else data
