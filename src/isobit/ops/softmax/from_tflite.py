"""TFLite's SOFTMAX."""

from __future__ import annotations

from isobit.ops.foreign import Call, tflite
from isobit.ops.int16 import is_int16, require_symmetric
from isobit.ops.softmax import gemmlowp, int16
from isobit.ops.softmax.op import OUTPUT, SoftmaxAttrs, SoftmaxInputs
from isobit.ops.tflite import require_types


@tflite("SOFTMAX")
def softmax(call: Call) -> None:
    """x: softmax over the last axis; y: scale 1/256, zero point -128. Source: TFLM
    `kernels/softmax_common.cc`.
    """
    require_types(call, "s8", "s16")
    x, y = call.operand(0), call.output()
    beta = float(call.option("beta", 1.0))
    inputs = SoftmaxInputs(call.value(x))
    if call.is_float:
        call.result("softmax", inputs, SoftmaxAttrs(beta))
        return
    wide = is_int16(call)
    wanted = int16.OUTPUT if wide else OUTPUT
    if y.type.encoding != wanted:
        raise call.unsupported(
            "encoding of the output", str(wanted), str(y.type.encoding), "Every runtime wants it."
        )
    if wide:
        require_symmetric(call, x)
        mult, shift = int16.parameters(beta * x.scale)
        call.result("softmax", inputs, SoftmaxAttrs(beta, mult, shift))
        return
    mult, shift, diff_min = gemmlowp.parameters(beta * x.scale)
    call.result("softmax", inputs, SoftmaxAttrs(beta, mult, shift, diff_min))
