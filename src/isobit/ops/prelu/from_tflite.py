"""TFLite's PRELU."""

from __future__ import annotations

import numpy as np

from isobit.core.fixed import Rounding
from isobit.core.types import Shape
from isobit.ops.foreign import Call, tflite
from isobit.ops.prelu.op import PreluAttrs, PreluInputs
from isobit.ops.tflite import computed, quantized, quotient, require_types


@tflite("PRELU")
def prelu(call: Call) -> None:
    """x: any shape; alpha: stored, any shape that broadcasts to x. Source: TFLM
    `kernels/prelu_common.cc`, `reference/prelu.h`.
    """
    require_types(call, "s8")
    x, alpha = call.operand(0), call.operand(1)
    data = call.constant(1, "alpha")
    x_shape: Shape = (1, *(x.shape or (1,)))
    ones = len(x_shape) - len(data.shape)
    if ones < 1:
        raise call.unsupported(
            "alpha",
            f"at most {len(x_shape) - 1} axes",
            str(list(alpha.shape)),
            "Give the slopes a shape that broadcasts to the input.",
        )
    data = data.reshape((1,) * ones + data.shape)
    value = computed(call)
    if x.type.shape == x.shape:  # the foreign batch is ours: one axis less
        x_shape, data = x_shape[1:], data.reshape(data.shape[1:])
    slope = call.const("slope", data, alpha.type)
    if call.is_float:
        inputs, attrs = PreluInputs(value, slope), PreluAttrs()
    else:
        reals = (quotient(call, x.scale), quotient(call, x.scale, alpha.scale))
        numbers = [number for real in reals for number in quantized(real)]
        names = ("mult", "shift", "mult_neg", "shift_neg")
        constants = {
            name: call.const(name, np.asarray([number], dtype=np.int32))
            for name, number in zip(names, numbers, strict=True)
        }
        inputs = PreluInputs(value, slope, **constants)
        attrs = PreluAttrs(round=Rounding.TFLITE_DOUBLE)
    call.result("prelu", inputs, attrs)
