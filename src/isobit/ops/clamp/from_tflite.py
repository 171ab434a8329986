"""TFLite's RELU and RELU6."""

from __future__ import annotations

import math

import numpy as np

from isobit.core.dtypes import DType
from isobit.core.fixed import Rounding
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.foreign import Call, Runtime, tflite
from isobit.ops.int16 import require_symmetric
from isobit.ops.lut import tflm
from isobit.ops.lut.from_tflite import quantised, tabulated
from isobit.ops.requantize.op import RequantizeAttrs, RequantizeInputs
from isobit.ops.tflite import codes_of, computed, factors, require_types

BOUNDS = {"RELU": (0.0, math.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}


@tflite("RELU", "RELU6", "RELU_N1_TO_1")
def relu(call: Call) -> None:
    """x: any shape. TFLM's RELU6 copies codes whatever the output's encoding is; all others rescale
    to it. TFLM has no RELU_N1_TO_1.

    Sources: TFLM `kernels/activations_common.cc`; LiteRT `kernels/activations.cc`.
    """
    require_types(call, "s8", "s16")
    x, y = call.operand(0), call.output()
    low, high = BOUNDS[call.code]
    if call.is_float:
        call.result("clamp", ClampInputs(computed(call)), ClampAttrs(low, high))
        return
    q, dtype = quantised(call), y.type.dtype
    if dtype is DType.S16:
        require_symmetric(call, x, y)
    same = x.type.encoding == y.type.encoding
    codes = codes_of(y, low, high)
    if call.code == "RELU6" and call.runtime is Runtime.TFLM:
        codes = codes_of(x, low, high)
        if not same and dtype is DType.S8:
            tabulated(call, tflm.relu6(q))
            return
        if not same:  # the codes as they are: no multiplier, no shift
            inputs = RequantizeInputs(computed(call), shift=call.const("shift", np.zeros(1, "i4")))
            call.result("requantize", inputs, RequantizeAttrs(codes, dtype=dtype))
            return
    if same:
        call.result("clamp", ClampInputs(computed(call)), ClampAttrs(low, high, codes))
    else:
        inputs = RequantizeInputs(computed(call), **factors(call, [q.ratio]))
        call.result("requantize", inputs, RequantizeAttrs(codes, Rounding.TFLITE_DOUBLE, dtype))
