"""The golden model: a graph interpreted by every operator's definition, in NumPy, for any number of
samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from isobit.core.errors import BadRunInput
from isobit.core.types import AnyArray
from isobit.ir.graph import Graph, Node, Stage, map_inputs
from isobit.ops.check import node_types
from isobit.ops.registry import load_ops

BATCH = 256
"""Samples interpreted at once: bounds memory, changes nothing."""


def run_golden(graph: Graph, x: AnyArray) -> dict[str, AnyArray]:
    """Return every value of the graph by name for input codes `x` [N, *shape without batch].

    Integer graphs give codes in the values' carriers, float graphs float64. Raises `BadRunInput`.
    """
    x = check_input(graph, x)
    parts = [_run(graph, x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def check_input(graph: Graph, x: AnyArray) -> AnyArray:
    """Return `x` if it is a non-empty batch of the graph's (only) input type, else raise
    `BadRunInput`.
    """
    (source,) = graph.inputs
    want = source.type
    array = np.asarray(x)
    wanted = np.dtype(np.float64) if graph.stage is Stage.FLOAT else want.dtype.numpy
    shape_fits = (
        array.ndim == len(want.shape) and array.shape[1:] == want.shape[1:] and len(array) > 0
    )
    if not shape_fits or not np.can_cast(array.dtype, wanted, casting="safe"):
        raise BadRunInput(
            where=f"input %{source.name} of {graph.name}",
            what="input array",
            want=f"{wanted}[N, {', '.join(map(str, want.shape[1:]))}] (NHWC)",
            got=f"{array.dtype}{list(array.shape)}",
            fix="Integer networks take the codes of their input; Model.quantize_input makes them.",
        )
    return np.ascontiguousarray(array, dtype=wanted)


def _run(graph: Graph, x: AnyArray) -> dict[str, AnyArray]:
    registry = load_ops()
    working = np.float64 if graph.stage is Stage.FLOAT else np.int64

    def widened(array: AnyArray) -> AnyArray:
        # Float carriers of an integer graph (quantize, dequantize) are bits to keep, not numbers to
        # widen.
        keep = graph.stage is Stage.INT and array.dtype.kind == "f"
        return array if keep else array.astype(working)

    values: dict[str, AnyArray] = {graph.inputs[0].name: widened(x)}
    consts = {const.name: widened(const.data) for const in graph.consts}
    for node in graph.nodes:
        results = _evaluate(graph, node, registry.op(node.op), {**consts, **values})
        for value, array in zip(node.outputs, results, strict=True):
            values[value.name] = array
    types = graph.type_map()
    if graph.stage is Stage.FLOAT:
        return values
    return {name: _narrow(array, types[name].dtype.numpy) for name, array in values.items()}


def _evaluate(
    graph: Graph, node: Node, op: Any, values: Mapping[str, AnyArray]
) -> tuple[AnyArray, ...]:
    inputs = map_inputs(node.inputs, lambda name: values[name])
    if graph.stage is Stage.FLOAT:
        result = op.real(node.attrs, inputs)
    else:
        result = op.integer(node.attrs, node_types(graph, node), inputs)
    return result if isinstance(result, tuple) else (result,)


def _narrow(array: AnyArray, dtype: Any) -> AnyArray:
    if array.dtype == dtype:
        return array
    narrow: AnyArray = array.astype(dtype)
    assert np.array_equal(narrow, array), "a value left its carrier"
    return narrow
