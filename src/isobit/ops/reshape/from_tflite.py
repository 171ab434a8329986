"""TFLite's operators that give the same elements another shape."""

from __future__ import annotations

from isobit.ops.foreign import Call, tflite
from isobit.ops.movement import require_one_encoding


@tflite("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
def reshape(call: Call) -> None:
    """x: any shape; the output's shape in the file is the new one. Source: TFLM
    `kernels/reshape.cc`.
    """
    x = call.operand(0)
    require_one_encoding(call, x)
    call.unboxed(call.value(x))
