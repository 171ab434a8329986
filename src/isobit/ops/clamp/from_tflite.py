"""TFLite's RELU and RELU6."""

from __future__ import annotations

import math

from isobit.core.fixed import Rounding
from isobit.ops.clamp.op import ClampAttrs, ClampInputs
from isobit.ops.foreign import Call, tflite
from isobit.ops.lut import tflm
from isobit.ops.lut.from_tflite import quantised, tabulated
from isobit.ops.requantize.op import RequantizeAttrs, RequantizeInputs
from isobit.ops.tflite import computed, factors, require_types


@tflite("RELU", "RELU6")
def relu(call: Call) -> None:
    """x: any shape. RELU rescales to the output's encoding; RELU6 copies codes whatever that is.

    Source: TFLM `kernels/activations_common.cc`.
    """
    require_types(call, "s8")
    high = math.inf if call.code == "RELU" else 6.0
    if call.is_float:
        call.result("clamp", ClampInputs(computed(call)), ClampAttrs(0.0, high))
        return
    q = quantised(call)
    same = call.operand(0).type.encoding == call.output().type.encoding
    if call.code == "RELU6":
        table = tflm.relu6(q)
        if same:
            attrs = ClampAttrs(0.0, high, (int(table.min()), int(table.max())))
            call.result("clamp", ClampInputs(computed(call)), attrs)
        else:
            tabulated(call, table)
    elif same:
        call.result("clamp", ClampInputs(computed(call)), ClampAttrs(0.0, high, (q.zy, 127)))
    else:
        inputs = RequantizeInputs(computed(call), **factors(call, [q.ratio]))
        rescaled = RequantizeAttrs((q.zy, 127), Rounding.TFLITE_DOUBLE)
        call.result("requantize", inputs, rescaled)
