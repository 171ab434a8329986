"""TFLite's ADD and SUB, and SQUARED_DIFFERENCE of reals."""

from __future__ import annotations

import numpy as np

from isobit.core.fixed import Rounding
from isobit.ops.add.op import AddAttrs, AddInputs, rescaling
from isobit.ops.foreign import Call, tflite
from isobit.ops.int16 import is_int16, require_symmetric
from isobit.ops.lut.op import LutAttrs, LutInputs
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


@tflite("SQUARED_DIFFERENCE")
def squared_difference(call: Call) -> None:
    """a, b: float32 of any shapes that broadcast; `(a - b)^2`. Source: TFLM
    `kernels/squared_difference.cc`.
    """
    y = call.output()
    if not call.is_float:
        raise call.unsupported(
            "types",
            "float32",
            y.type.dtype.value,
            "Layer normalisation has no integer counterpart here; batch normalisation has.",
        )
    a, b, shape = pair_of(call)
    kind = y.type.with_shape(shape)
    difference = call.emit("add", AddInputs(a, b), AddAttrs(subtract=True), kind)
    finish(call, "lut", LutInputs(difference), LutAttrs("square"), shape=shape)
