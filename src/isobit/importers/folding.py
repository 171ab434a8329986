"""Operators whose inputs are all stored tensors: computed when the file is read, by the operator's
own definition.

Converters leave them where a shape is computed: of a model with a dynamic batch, every Flatten is
SHAPE, STRIDED_SLICE, PACK, RESHAPE. Shapes are fixed here (a dynamic axis is 1), so SHAPE is a
stored tensor too, and operators of integers that no network computes with fold here only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from isobit.core.errors import raise_all
from isobit.core.types import AnyArray, Shape
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


Options = Mapping[str, Any]


def _gathered(x: Sequence[AnyArray], options: Options) -> AnyArray:
    if options.get("batch_dims"):
        raise ValueError("indices of every batch")
    return np.asarray(np.take(x[0], x[1], axis=int(options.get("axis", 0))))


def _selected(x: Sequence[AnyArray]) -> AnyArray:
    """The older SELECT does not broadcast: a condition of one axis chooses along the first."""
    if x[0].size != 1 and not x[0].shape == x[1].shape == x[2].shape:
        raise ValueError("a condition for every row")
    return np.where(x[0], x[1], x[2])


INTEGERS: dict[str, Callable[[Sequence[AnyArray], Options], AnyArray]] = {
    "ADD": lambda x, _: x[0] + x[1],
    "BROADCAST_ARGS": lambda x, _: np.asarray(np.broadcast_shapes(tuple(x[0]), tuple(x[1]))),
    "CAST": lambda x, _: x[0],
    "DIV": lambda x, _: np.trunc(x[0] / x[1]),
    "EQUAL": lambda x, _: x[0] == x[1],
    "FILL": lambda x, _: np.full(x[0], x[1]),
    "FLOOR_DIV": lambda x, _: x[0] // x[1],
    "FLOOR_MOD": lambda x, _: x[0] % x[1],
    "GATHER": lambda x, options: _gathered(x, options),
    "GREATER": lambda x, _: x[0] > x[1],
    "GREATER_EQUAL": lambda x, _: x[0] >= x[1],
    "LESS": lambda x, _: x[0] < x[1],
    "LESS_EQUAL": lambda x, _: x[0] <= x[1],
    "MAXIMUM": lambda x, _: np.maximum(x[0], x[1]),
    "MINIMUM": lambda x, _: np.minimum(x[0], x[1]),
    "MUL": lambda x, _: x[0] * x[1],
    "NEG": lambda x, _: -x[0],
    "NOT_EQUAL": lambda x, _: x[0] != x[1],
    "RANGE": lambda x, _: np.arange(x[0].item(), x[1].item(), x[2].item()),
    "REDUCE_PROD": lambda x, options: np.prod(
        x[0], axis=tuple(np.ravel(x[1]).tolist()), keepdims=bool(options.get("keep_dims", False))
    ),
    "SELECT": lambda x, _: _selected(x),
    "SELECT_V2": lambda x, _: np.where(x[0], x[1], x[2]),
    "SUB": lambda x, _: x[0] - x[1],
}
"""Operators on stored integers without a scale, as runtimes compute them."""
MOST_NUMBERS = 1 << 16
"""Of a folded tensor of integers: shapes and indices are short."""


def folded_integers(
    code: str, inputs: Sequence[AnyArray], options: Options, shape: Shape
) -> AnyArray | None:
    """Return what an operator on stored integers computes, of `shape`; `None` where it is not one
    of `INTEGERS`, or its inputs do not fit together.
    """
    compute = INTEGERS.get(code)
    sizes = [int(np.prod(shape, dtype=object)), *(x.size for x in inputs)]
    if compute is None or max(sizes) > MOST_NUMBERS or options.get("fused_activation_function"):
        return None
    try:
        with np.errstate(divide="raise"):
            # A shape whose numbers ask for more than the output has is damaged.
            if code in ("FILL", "RANGE") and not _is_short(code, inputs, sizes[0]):
                return None
            found = np.asarray(compute(inputs, options))
    except (ValueError, IndexError, TypeError, ArithmeticError):
        return None
    return found.reshape(shape) if found.size == sizes[0] else None


def _is_short(code: str, inputs: Sequence[AnyArray], size: int) -> bool:
    """Whether FILL or RANGE makes `size` elements."""
    if code == "FILL":
        return int(np.prod(inputs[0], dtype=object)) == size
    start, stop, step = (int(x.item()) for x in inputs)
    return len(range(start, stop, step)) == size
