"""ONNX's Softmax and LogSoftmax."""

from __future__ import annotations

import math
from fractions import Fraction

from isobit.core.dtypes import DType
from isobit.core.types import TensorType
from isobit.ops.base import NodeTypes
from isobit.ops.foreign import onnx
from isobit.ops.logical import Last, LogicalCall
from isobit.ops.onnx import finished
from isobit.ops.onnx_compose import require_reals, unary
from isobit.ops.schemes import Scheme
from isobit.ops.softmax.op import OUTPUT, Softmax, SoftmaxAttrs, SoftmaxInputs

EXACT_DEPTH = 2000
"""Exponentials whose roundings together stay below half a step of 1/256."""


@onnx("LogSoftmax")
def log_softmax(call: LogicalCall) -> None:
    """x: any shape, along any axis: the logarithm of softmax. Float graphs."""
    require_reals(call, "End the network with what LogSoftmax reads: the order is the same.")
    x, y = call.activation(), call.output()
    axis = call.axis(int(call.option("axis", -1)), len(x.shape))
    shares = call.temp("softmax", x.shape, x.type)
    call.step(Last("softmax", lambda n: SoftmaxInputs(n[0]), SoftmaxAttrs(), axis), [x], shares)
    unary(call, "log", shares, y)


@onnx("Softmax", "QLinearSoftmax")
def softmax(call: LogicalCall) -> None:
    """x: any shape, along any axis.

    Integer graphs compute TensorFlow Lite's int8 softmax, whose result has a step of 1/256, then
    a table where the encoding is another one. Its terms are rounded to 2^-19: for D of them the
    sum, which is at least 1, is off by at most D * 2^-20, and the quotient by the same part of
    itself. Its exponentials, Taylor sums of degree 4 within 1/8, are off by less than 2^-21 of
    themselves, all else by far less. So a result is off by less than 256 * (D + 1) * 2^-20 < 1/2
    of its step before it is rounded and by less than 1/256 after; in steps of S the code is off
    by at most ceil(1 / (256 * S)).
    """
    x, out = call.activation(), call.output()
    axis = call.axis(int(call.option("axis", -1)), len(x.shape))
    if call.is_float:
        kind = Last("softmax", lambda n: SoftmaxInputs(n[0]), SoftmaxAttrs(), axis)
        call.step(kind, [x])
        return
    depth = x.shape[axis]
    if depth > EXACT_DEPTH:
        raise call.unsupported("axis", f"at most {EXACT_DEPTH}", str(depth), "Use fewer classes.")
    y = call.temp("softmax", x.shape, TensorType((), DType.S8, OUTPUT))
    types = NodeTypes(SoftmaxInputs(x.type), (y.type,))
    attrs, _ = Softmax.derive(SoftmaxAttrs(), types, Scheme.AFFINE, SoftmaxInputs(None))
    call.step(Last("softmax", lambda n: SoftmaxInputs(n[0]), attrs, axis), [x], y)
    lsb = math.ceil(1 / (Fraction(out.scale) * 256))
    call.lossy(lsb, "TensorFlow Lite's fixed-point exponentials")
    finished(call, y)
