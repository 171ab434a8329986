"""TFLite's MUL."""

from __future__ import annotations

from isobit.core.fixed import Rounding
from isobit.ops.foreign import Call, tflite
from isobit.ops.int16 import is_int16, require_symmetric
from isobit.ops.mul.op import MulAttrs, MulInputs
from isobit.ops.tflite import (
    code_bounds,
    factors,
    finish,
    pair_of,
    quotient,
    require_computed,
    require_types,
)


@tflite("MUL")
def mul(call: Call) -> None:
    """a, b: any shapes that broadcast. Source: TFLM `kernels/mul_common.cc`."""
    require_types(call, "s8", "s16")
    require_computed(call, 0, 1)
    a, b, shape = pair_of(call)
    if call.is_float:
        finish(call, "mul", MulInputs(a, b), MulAttrs(), shape=shape)
        return
    if is_int16(call):
        require_symmetric(call, call.operand(0), call.operand(1), call.output())
    real = quotient(call, call.operand(0).scale, call.operand(1).scale)
    attrs = MulAttrs(code_bounds(call, call.output()), Rounding.TFLITE_DOUBLE)
    inputs = MulInputs(a, b, **factors(call, [real]))
    finish(call, "mul", inputs, attrs, shape=shape, clamped=True)
