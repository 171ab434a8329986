"""TFLite's SOFTMAX."""

from __future__ import annotations

from isobit.core.types import Affine
from isobit.ops.foreign import Call, tflite
from isobit.ops.softmax import gemmlowp
from isobit.ops.softmax.op import OUTPUT, SoftmaxAttrs, SoftmaxInputs
from isobit.ops.tflite import require_types


@tflite("SOFTMAX")
def softmax(call: Call) -> None:
    """x: softmax over the last axis; y: scale 1/256, zero point -128. Source: TFLM
    `kernels/softmax_common.cc`.
    """
    require_types(call, "s8")
    x, y = call.operand(0), call.output()
    beta = float(call.option("beta", 1.0))
    inputs = SoftmaxInputs(call.value(x))
    if call.is_float:
        call.result("softmax", inputs, SoftmaxAttrs(beta))
        return
    if y.type.encoding != Affine(OUTPUT.scale, OUTPUT.zero):
        raise call.unsupported(
            "encoding of the output", str(OUTPUT), str(y.type.encoding), "Every runtime wants it."
        )
    mult, shift, diff_min = gemmlowp.parameters(beta * x.scale)
    call.result("softmax", inputs, SoftmaxAttrs(beta, mult, shift, diff_min))
