"""TFLite's MUL, and DIV of reals by stored numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from isobit.core.fixed import Rounding
from isobit.ops.foreign import Call, Operand, tflite
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


@tflite("DIV")
def div(call: Call) -> None:
    """a: float32, b: stored float32; any shapes that broadcast. Source: TFLM `kernels/div.cc`."""
    if not call.is_float:
        raise call.unsupported(
            "types",
            "float32",
            call.operand(0).type.dtype.value,
            "By a constant it is MUL by the inverse.",
        )
    divisor = call.constant(1, "divisor")
    if not np.all(divisor):
        raise call.unsupported("divisor", "no 0", f"{int((divisor == 0).sum())} of them", "")
    a, b, shape = pair_of(replace(call, inputs=(call.operand(0), _inverse(call.operand(1)))))
    finish(call, "mul", MulInputs(a, b), MulAttrs(), shape=shape)


def _inverse(operand: Operand) -> Operand:
    """Return stored numbers as their inverses, under a name that no tensor of the file has."""
    assert operand.data is not None
    return replace(operand, value=f"{operand.value}/inverse", data=1.0 / operand.data)
