"""TFLite's ADD and SUB."""

from __future__ import annotations

import numpy as np

from isobit.core.fixed import Rounding
from isobit.ops.add.op import AddAttrs, AddInputs, rescaling
from isobit.ops.foreign import Call, tflite
from isobit.ops.int16 import is_int16, require_symmetric
from isobit.ops.tflite import code_bounds, finish, pair_of, require_types


@tflite("ADD", "SUB")
def add(call: Call) -> None:
    """a, b: any shapes that broadcast. Source: TFLM `kernels/add_common.cc`, `sub_common.cc`."""
    require_types(call, "s8", "s16")
    a, b, shape = pair_of(call)
    subtract = call.code == "SUB"
    if call.is_float:
        finish(call, "add", AddInputs(a, b), AddAttrs(subtract=subtract), shape=shape)
        return
    if is_int16(call):
        require_symmetric(call, call.operand(0), call.operand(1), call.output())
    scales = (call.operand(0).scale, call.operand(1).scale, call.output().scale)
    constants = {
        name: call.const(name, np.asarray([number], dtype=np.int32))
        for name, number in rescaling(*scales, call.output().type.dtype).items()
    }
    clamp = code_bounds(call, call.output())
    attrs = AddAttrs(clamp, Rounding.TFLITE_DOUBLE, subtract)
    finish(call, "add", AddInputs(a, b, **constants), attrs, shape=shape, clamped=True)
