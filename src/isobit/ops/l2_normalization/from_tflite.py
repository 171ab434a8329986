"""TFLite's L2_NORMALIZATION."""

from __future__ import annotations

from isobit.core.types import Affine
from isobit.ops.foreign import Call, tflite
from isobit.ops.l2_normalization.op import OUTPUT, L2NormalizationAttrs, L2NormalizationInputs
from isobit.ops.tflite import computed, require_types


@tflite("L2_NORMALIZATION")
def l2_normalization(call: Call) -> None:
    """x: normalised over the last axis; y: scale 1/128, zero point 0. Source: TFLM
    `kernels/l2norm.cc`.
    """
    require_types(call, "s8")
    y = call.output()
    if call.is_uint8:
        raise call.unsupported(
            "types", "int8 or float32", "uint8", "LiteRT rounds uint8 in another way; use int8."
        )
    if call.option("fused_activation_function", 0) != 0:
        got = str(call.option("fused_activation_function"))
        raise call.unsupported("fused activation", "none", got, "No runtime computes one here.")
    if not call.is_float and y.type.encoding != Affine(OUTPUT.scale, OUTPUT.zero):
        raise call.unsupported(
            "encoding of the output", str(OUTPUT), str(y.type.encoding), "Every runtime wants it."
        )
    inputs = L2NormalizationInputs(computed(call))
    call.result("l2_normalization", inputs, L2NormalizationAttrs())
