"""The golden model: a graph interpreted by every operator's definition, in NumPy, for any number of
samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from isobit.core.types import AnyArray
from isobit.ir.graph import Graph, Node, Stage, State, map_inputs
from isobit.ops.check import activations, node_types
from isobit.ops.registry import load_ops
from isobit.run.codes import Codes, check_inputs, cut, sample_count

BATCH = 256
"""Samples interpreted at once: bounds memory, changes nothing."""


def run_golden(graph: Graph, x: Codes) -> dict[str, AnyArray]:
    """Return every value of the graph by name for input codes `x` [N, *shape without batch], of
    several inputs a mapping from name to array.

    Integer graphs give codes in the values' carriers, float graphs float64. Samples are
    independent of each other, but for a graph with states: then they are consecutive runs, the
    first of which reads what the states are reset to. Raises `BadRunInput`.
    """
    arrays = check_inputs(graph, x)
    batch = 1 if graph.states else BATCH
    states = {state.name: first_state(graph, state) for state in graph.states}
    parts = []
    for start in range(0, sample_count(arrays), batch):
        part = _run(graph, cut(arrays, start, start + batch), states)
        states = {state.name: part[state.next] for state in graph.states}
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def first_state(graph: Graph, state: State) -> AnyArray:
    """Return what the first run reads of a state: its `reset` constant, else the code of 0."""
    if state.reset:
        return graph.const_map()[state.reset].data
    return np.full(state.type.shape, state.type.zero, dtype=state.type.dtype.numpy)


def _run(
    graph: Graph, arrays: Mapping[str, AnyArray], states: Mapping[str, AnyArray]
) -> dict[str, AnyArray]:
    registry = load_ops()
    working = np.float64 if graph.stage is Stage.FLOAT else np.int64

    def widened(array: AnyArray) -> AnyArray:
        # Float carriers of an integer graph (quantize, dequantize) are bits to keep, not numbers to
        # widen.
        keep = graph.stage is Stage.INT and array.dtype.kind == "f"
        return array if keep else array.astype(working)

    given = {**arrays, **states}
    values: dict[str, AnyArray] = {name: widened(x) for name, x in given.items()}
    consts = {const.name: widened(const.data) for const in graph.consts}
    for node in graph.nodes:
        results = _evaluate(graph, node, registry.op(node.op), values, consts)
        for value, array in zip(node.outputs, results, strict=True):
            values[value.name] = array
    for name in states:  # what the run before left there, under the name `next`
        del values[name]
    types = graph.type_map()
    if graph.stage is Stage.FLOAT:
        return values
    return {name: _narrow(array, types[name].dtype.numpy) for name, array in values.items()}


def _evaluate(
    graph: Graph,
    node: Node,
    op: Any,
    values: Mapping[str, AnyArray],
    consts: Mapping[str, AnyArray],
) -> tuple[AnyArray, ...]:
    samples, flowing = len(next(iter(values.values()))), activations(op, node)

    def operand(name: str) -> AnyArray:
        if name in values:
            return values[name]
        stored = consts[name]
        # A stored tensor in an activation's place is the same for every sample.
        shape = (samples, *stored.shape[1:]) if name in flowing else stored.shape
        return np.broadcast_to(stored, shape)

    inputs = map_inputs(node.inputs, operand)
    if graph.stage is Stage.FLOAT:
        result = _in_order(op.real(node.attrs, inputs))
    else:
        result = op.integer(node.attrs, node_types(graph, node), inputs)
    return result if isinstance(result, tuple) else (result,)


def _in_order(result: Any) -> tuple[AnyArray, ...]:
    """Return results as plain arrays: NumPy's sums of reals depend on the strides of what they
    add, and a value must not depend on how its operand was made.
    """
    return tuple(map(np.ascontiguousarray, result if isinstance(result, tuple) else (result,)))


def _narrow(array: AnyArray, dtype: Any) -> AnyArray:
    if array.dtype == dtype:
        return array
    narrow: AnyArray = array.astype(dtype)
    assert np.array_equal(narrow, array), "a value left its carrier"
    return narrow
