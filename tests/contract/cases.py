"""An operator's samples, taken apart without knowing the operator.

An `Inputs` dataclass has fields that hold one array, `None` or a tuple of arrays; the operator says
which are constants. Everything here follows from that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache
from typing import Any

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.types import TensorType
from isobit.ir.graph import map_inputs, operands
from isobit.ops.base import NodeTypes, Op, Sample
from isobit.ops.registry import load_ops


@cache
def samples(name: str) -> tuple[Sample[Any], ...]:
    """Every sample of an operator."""
    return tuple(load_ops().op(name).samples())


@cache
def expected(name: str) -> tuple[tuple[np.ndarray, ...], ...]:
    """What `integer` says of every sample: its outputs, in the carriers' dtypes."""
    op = load_ops().op(name)
    return tuple(integer(op, s.attrs, s.types, s.inputs) for s in samples(name))


def integer(
    op: type[Op[Any, Any]], attrs: Any, q: NodeTypes[Any], inputs: Any
) -> tuple[np.ndarray, ...]:
    """`op.integer`, always a tuple, in the carriers' dtypes; fails where a code leaves its own."""
    result = op.integer(attrs, q, inputs)
    arrays = result if isinstance(result, tuple) else (result,)
    narrowed = []
    for array, kind in zip(arrays, q.outputs, strict=True):
        narrow = np.asarray(array).astype(kind.dtype.numpy)
        assert np.array_equal(narrow, array, equal_nan=not kind.dtype.is_integer), (
            "a code left its carrier"
        )
        narrowed.append(narrow)
    return tuple(narrowed)


def arrays_of(inputs: Any, name: str) -> tuple[Any, ...]:
    """A field's operands: none, one or several."""
    value = getattr(inputs, name)
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def activation_fields(op: type[Op[Any, Any]]) -> tuple[str, ...]:
    """Fields that exist at run time."""
    return tuple(f.name for f in dataclasses.fields(op.inputs_type) if f.name not in op.constants)


def activations(op: type[Op[Any, Any]], inputs: Any) -> tuple[Any, ...]:
    """The activation operands in call order."""
    return tuple(a for name in activation_fields(op) for a in arrays_of(inputs, name))


def read_only(op: type[Op[Any, Any]], inputs: Any) -> tuple[Any, ...]:
    """The activation operands that kernels get as inputs: an updated state is an output."""
    names = [name for name in activation_fields(op) if name not in op.updates]
    return tuple(a for name in names for a in arrays_of(inputs, name))


def batches(op: type[Op[Any, Any]], inputs: Any) -> int:
    """How many samples lie on the batch axis."""
    return max(len(array) for array in activations(op, inputs))


def nth(op: type[Op[Any, Any]], inputs: Any, n: int) -> tuple[np.ndarray, ...]:
    """The activation operands of one batch entry; an operand with a batch of 1 serves all."""
    return tuple(a[n : n + 1] if len(a) > 1 else a for a in read_only(op, inputs))


def consts_only(op: type[Op[Any, Any]], types: Any, inputs: Any) -> Any:
    """The inputs as `Kernel.pack` gets them from a graph: constants in their carriers, activations
    `None`.
    """
    changes: dict[str, Any] = dict.fromkeys(activation_fields(op))
    for name in op.constants:
        value, kind = getattr(inputs, name), getattr(types, name)
        changes[name] = None if value is None else stored(value, kind)
    return dataclasses.replace(inputs, **changes)


def stored(array: Any, kind: TensorType) -> np.ndarray:
    """Codes in their carrier, as a graph stores them."""
    narrow = np.asarray(array).astype(kind.dtype.numpy)
    assert np.array_equal(narrow, array, equal_nan=not kind.dtype.is_integer), (
        "a sample leaves its carrier"
    )
    return narrow


def pairs(types: Any, inputs: Any) -> Iterator[tuple[TensorType, np.ndarray]]:
    """Every operand with its type."""
    return zip(operands(types), operands(inputs), strict=True)


def oracle_arguments(sample: Sample[Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, int]]:
    """Inputs, attributes and zero points in the plain form that `tests/oracles` takes."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(v) for v in value]
        if value is None:
            return None
        array = np.asarray(value)
        return array if array.dtype.kind == "f" else array.astype(np.int64)

    inputs, zeros = {}, {}
    for item in dataclasses.fields(sample.inputs):
        value, kind = getattr(sample.inputs, item.name), getattr(sample.types.inputs, item.name)
        if isinstance(kind, TensorType) and not kind.dtype.is_integer:
            value = np.asarray(value, dtype=np.float32)
        inputs[item.name] = plain(value)
        first = kind[0] if isinstance(kind, tuple) else kind
        if first is not None:
            zeros[item.name] = first.zero
    zeros["y"] = sample.types.outputs[0].zero
    attrs = {}
    for item in dataclasses.fields(sample.attrs):
        value = getattr(sample.attrs, item.name)
        attrs[item.name] = value.value if isinstance(value, Enum) else value
    return inputs, attrs, zeros


def varied(op: type[Op[Any, Any]], sample: Sample[Any], rng: np.random.Generator) -> Sample[Any]:
    """Return the sample with other numbers of the same types: activations, constants, zero points,
    clamps.

    What shapes and number systems fix stays: a kernel's instance must not change. Constants are
    drawn between the smallest and the largest value that the sample has, so that sums stay in their
    range.
    """
    zeros: dict[int, int] = {}

    def moved(kind: TensorType) -> TensorType:
        old = getattr(kind.encoding, "zero", None)
        if old is None or not kind.dtype.is_integer or kind.encoding.axis is not None:
            return kind
        # Equal zero points stay equal: many operators demand one encoding for input and output.
        new = zeros.setdefault(old, old if old == 0 else int(rng.integers(-60, 61)))
        return dataclasses.replace(kind, encoding=dataclasses.replace(kind.encoding, zero=new))

    types = map_inputs(sample.types.inputs, moved)
    outputs = tuple(map(moved, sample.types.outputs))
    changes: dict[str, Any] = {}
    for item in dataclasses.fields(sample.inputs):
        value = getattr(sample.inputs, item.name)
        if value is None:
            continue
        draw: Callable[[Any], Any] = _constant if item.name in op.constants else _activation
        kind = getattr(types, item.name)
        if isinstance(value, tuple):
            changes[item.name] = tuple(draw((v, k, rng)) for v, k in zip(value, kind, strict=True))
        else:
            changes[item.name] = draw((value, kind, rng))
    attrs = sample.attrs
    if hasattr(attrs, "clamp"):
        ends = outputs[0].dtype
        low, high = sorted(int(v) for v in rng.integers(ends.low, ends.high + 1, size=2))
        attrs = dataclasses.replace(attrs, clamp=(low, high))
    return Sample(
        f"{sample.label}, varied",
        attrs,
        NodeTypes(types, outputs),
        dataclasses.replace(sample.inputs, **changes),
    )


def _activation(drawn: tuple[np.ndarray, TensorType, np.random.Generator]) -> np.ndarray:
    """Uniform codes, or only the two ends of the carrier, or one code everywhere."""
    array, kind, rng = drawn
    if not kind.dtype.is_integer:
        return (rng.normal(size=array.shape) * 10.0 ** rng.integers(-3, 4)).astype(kind.dtype.numpy)
    style = rng.integers(4)
    if style == 0:
        return rng.choice([kind.dtype.low, kind.dtype.high], size=array.shape)
    if style == 1:
        return np.full(array.shape, rng.integers(kind.dtype.low, kind.dtype.high + 1))
    return rng.integers(kind.dtype.low, kind.dtype.high + 1, size=array.shape)


def _constant(drawn: tuple[np.ndarray, TensorType, np.random.Generator]) -> np.ndarray:
    array, kind, rng = drawn
    if not kind.dtype.is_integer or kind.dtype is DType.S64:
        return rng.permutation(np.ravel(array)).reshape(array.shape)
    return rng.integers(int(array.min()), int(array.max()) + 1, size=array.shape)
