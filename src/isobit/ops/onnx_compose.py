"""Operators of reals that are several of ours: sums, products, means and functions of one number.

Only for float graphs, where nothing in between is rounded. Calibration gives every part a range.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isobit.core.types import AnyArray
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.concat.op import ConcatAttrs, ConcatInputs
from isobit.ops.concat.reference import MAX_INPUTS
from isobit.ops.foreign import Operand
from isobit.ops.logical import Along, Elementwise, LogicalCall, View
from isobit.ops.lut.op import LutAttrs, LutInputs
from isobit.ops.mul.op import MulAttrs, MulInputs
from isobit.ops.reduce_sum.op import ReduceSumAttrs, ReduceSumInputs
from isobit.ops.split.op import SplitAttrs, SplitInputs
from isobit.ops.split.reference import MAX_OUTPUTS


def require_reals(call: LogicalCall, fix: str) -> None:
    """Refuse a quantised graph, whose values in between would be rounded."""
    if not call.is_float:
        raise call.unsupported("operator", "a graph of reals", f"{call.code} of codes", fix)


def number(call: LogicalCall, wanted: str, value: float | AnyArray) -> Operand:
    """Return a stored tensor of reals."""
    data = np.asarray(value, dtype=np.float64)
    kind = call.output().type.with_shape(data.shape)
    return Operand("", data.shape, kind, call.build.fresh(f"{call.output().value}_{wanted}"), data)


def unary(
    call: LogicalCall, function: str | LutAttrs, x: Operand, y: Operand | None = None
) -> Operand:
    """Record a named function of every element."""
    attrs = LutAttrs(function) if isinstance(function, str) else function
    aim = y or call.temp(attrs.function, x.shape, x.type)
    call.step(Elementwise("lut", lambda n: LutInputs(n[0]), attrs), [x], aim)
    return aim


def plus(
    call: LogicalCall, a: Operand, b: Operand, y: Operand | None = None, *, subtract: bool = False
) -> Operand:
    """Record a sum or a difference, broadcast as NumPy does."""
    aim = y or call.temp("sum", tuple(np.broadcast_shapes(a.shape, b.shape)), a.type)
    attrs = AddAttrs(subtract=subtract)
    call.step(Elementwise("add", lambda n: AddInputs(n[0], n[1]), attrs), [a, b], aim)
    return aim


def times(call: LogicalCall, a: Operand, b: Operand, y: Operand | None = None) -> Operand:
    """Record a product, broadcast as NumPy does."""
    aim = y or call.temp("product", tuple(np.broadcast_shapes(a.shape, b.shape)), a.type)
    call.step(Elementwise("mul", lambda n: MulInputs(n[0], n[1]), MulAttrs()), [a, b], aim)
    return aim


def reduced(
    call: LogicalCall, x: Operand, axes: Sequence[int], *, mean: bool, y: Operand | None = None
) -> Operand:
    """Record a sum or a mean that keeps the reduced axes, of size 1."""
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    own = tuple(axis for axis in axes if x.shape[axis] > 1)
    if not own:
        return x
    aim = y or call.temp("mean" if mean else "total", kept, x.type)
    kind = Along(
        "reduce_sum",
        lambda n: ReduceSumInputs(n[0]),
        lambda at: ReduceSumAttrs(at.axes(own), mean=mean),
        own,
    )
    call.step(kind, [x], aim)
    return aim


def standardised(call: LogicalCall, x: Operand, axes: Sequence[int], epsilon: float) -> Operand:
    """Record `(x - mean) / sqrt(var + epsilon)` with mean and variance over `axes`."""
    deviation = plus(call, x, reduced(call, x, axes, mean=True), subtract=True)
    variance = reduced(call, unary(call, "square", deviation), axes, mean=True)
    raised = plus(call, variance, number(call, "epsilon", epsilon))
    return times(call, deviation, unary(call, "rsqrt", raised))


def joined(call: LogicalCall, parts: Sequence[Operand], axis: int, y: Operand) -> None:
    """Record the join of parts along an axis: of more than a kernel takes, a join of joins."""
    if len(parts) == 1:
        call.step(View(), parts, y)
        return
    while len(parts) > MAX_INPUTS:
        groups = [parts[i : i + MAX_INPUTS] for i in range(0, len(parts), MAX_INPUTS)]
        parts = [_group(call, own, axis, y) for own in groups]
    kind = Along("concat", ConcatInputs, lambda at: ConcatAttrs(at.axis(axis)), (axis,))
    call.step(kind, parts, y)


def _group(call: LogicalCall, parts: Sequence[Operand], axis: int, y: Operand) -> Operand:
    if len(parts) == 1:
        return parts[0]
    whole = call.temp("some", _total(parts, axis), y.type)
    joined(call, parts, axis, whole)
    return whole


def parted(call: LogicalCall, x: Operand, axis: int, ys: Sequence[Operand]) -> None:
    """Record the parts of x along an axis: more than a kernel writes, from parts of parts."""
    if len(ys) == 1:
        call.step(View(), [x], ys[0])
        return
    if len(ys) > MAX_OUTPUTS:
        size = -(-len(ys) // MAX_OUTPUTS)
        groups = [ys[i : i + size] for i in range(0, len(ys), size)]
        wholes = [call.temp("some", _total(own, axis), x.type) for own in groups]
        parted(call, x, axis, wholes)
        for whole, own in zip(wholes, groups, strict=True):
            parted(call, whole, axis, own)
        return
    sizes = tuple(y.shape[axis] for y in ys)
    kind = Along(
        "split", lambda n: SplitInputs(n[0]), lambda at: SplitAttrs(at.axis(axis), sizes), (axis,)
    )
    call.step(kind, [x], *ys)


def _total(parts: Sequence[Operand], axis: int) -> tuple[int, ...]:
    size = sum(part.shape[axis] for part in parts)
    return (*parts[0].shape[:axis], size, *parts[0].shape[axis + 1 :])


def repeated(call: LogicalCall, x: Operand, axis: int, count: int) -> Operand:
    """Record `count` copies of x behind each other along an axis; codes or reals."""
    shape = tuple(size * count if a == axis else size for a, size in enumerate(x.shape))
    y = call.temp("repeated", shape, x.type)
    joined(call, [x] * count, axis, y)
    return y
