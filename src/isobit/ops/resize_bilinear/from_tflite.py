"""TFLite's RESIZE_BILINEAR."""

from __future__ import annotations

from isobit.ops.foreign import Call, tflite
from isobit.ops.resize_nearest.from_tflite import resized
from isobit.ops.resize_nearest.op import ResizeInputs
from isobit.ops.tflite import computed


@tflite("RESIZE_BILINEAR")
def resize_bilinear(call: Call) -> None:
    """x: [1,H,W,C]; size: stored. Source: TFLM `kernels/resize_bilinear.cc`."""
    if call.is_uint8:
        raise call.unsupported(
            "types", "int8 or float32", "uint8", "LiteRT interpolates uint8 in float32; use int8."
        )
    attrs = resized(call)
    call.result("resize_bilinear", ResizeInputs(computed(call)), attrs)
