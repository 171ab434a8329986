"""ONNX's Add, Sub, Sum and Mean."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from isobit.core.types import IntArray
from isobit.ops.add.op import AddAttrs, AddInputs
from isobit.ops.exact import match_sum
from isobit.ops.foreign import Operand, onnx
from isobit.ops.logical import Elementwise, LogicalCall
from isobit.ops.onnx import code_bounds, coded, finished, moved_codes, reach, scale
from isobit.ops.onnx_channels import channel_reals, per_channel
from isobit.ops.onnx_compose import number, require_reals, times


@onnx("Add", "Sub", "QLinearAdd")
def add(call: LogicalCall) -> None:
    """a, b: computed or stored, broadcast as NumPy does.

    Integer graphs: both multipliers are compared with the exact sum on all pairs of codes.
    """
    record(call, call.operand(0), call.operand(1), call.output(), subtract=call.code == "Sub")


@onnx("Sum", "Mean")
def total(call: LogicalCall) -> None:
    """Any number of operands, two by two; in integer graphs a sum of two, because sums in between
    would be rounded.
    """
    if len(call.inputs) == 1:
        finished(call, call.activation())
        return
    if call.code == "Mean":
        _mean(call)
        return
    operands = [call.operand(index) for index in range(len(call.inputs))]
    if len(operands) < 2 or (len(operands) > 2 and not call.is_float):
        raise call.unsupported("inputs", "two", str(len(operands)), "Add two at a time.")
    left = operands[0]
    for position, right in enumerate(operands[1:], start=2):
        y = call.output()
        if position < len(operands):
            shape = np.broadcast_shapes(left.shape, right.shape)
            y = call.temp("partial", tuple(shape), y.type)
        record(call, left, right, y)
        left = y


def _mean(call: LogicalCall) -> None:
    require_reals(call, "Add two at a time, each sum with a scale of its own.")
    shape, count = call.output().shape, len(call.inputs)
    whole = call.temp("whole", shape, call.output().type)
    total(replace(call, code="Sum", outputs=(whole,)))
    times(call, whole, number(call, "share", 1 / count), call.output())


def record(
    call: LogicalCall, a: Operand, b: Operand, y: Operand, *, subtract: bool = False
) -> None:
    """Record a sum or a difference."""
    if call.is_float:
        attrs = AddAttrs(subtract=subtract)
        call.step(Elementwise("add", lambda n: AddInputs(n[0], n[1]), attrs), [a, b], y)
        return
    for x, c in ((a, b), (b, a)):
        reals = channel_reals(call, x, c)
        if reals and y is call.output():
            factor = Fraction(-1 if subtract and x is b else 1)
            offsets = [-real if subtract and c is b else real for real in reals]
            if per_channel(call, x, [factor] * len(reals), offsets):
                return
    (a, lost_a), (b, lost_b) = coded(call, a), coded(call, b)
    sy, clamp = scale(call, y), code_bounds(call, y)
    real_a, real_b = scale(call, a) / sy, scale(call, b) / sy
    signed = -real_b if subtract else real_b
    ends = (reach(a), reach(b))
    found = match_sum(real_a, signed, _centred(a), _centred(b), clamp, y.zero, ends)
    lost = moved_codes((lost_a + lost_b) / sy)
    text = "sums that are ties, or a quotient of scales beyond int32"
    if lost:
        text = "stored reals are rounded to codes of their own step"
    call.lossy(found.lsb + lost, text)
    numbers = {"mult_a": found.mult_a, "mult_b": found.mult_b, "shift": found.shift}
    names = {n: call.const(n, np.asarray([v], dtype=np.int32)) for n, v in numbers.items()}
    attrs = AddAttrs(clamp, subtract=subtract)
    kind = Elementwise("add", lambda n: AddInputs(n[0], n[1], **names), attrs)
    call.step(kind, [a, b], y)


def _centred(x: Operand) -> IntArray:
    """Return every centred code the operand may have."""
    if x.data is not None:
        return np.unique(x.data.astype(np.int64)) - x.zero
    return np.arange(-128, 128, dtype=np.int64) - x.zero
