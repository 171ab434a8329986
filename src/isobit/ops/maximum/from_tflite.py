"""TFLite's MAXIMUM and MINIMUM."""

from __future__ import annotations

from isobit.ops.foreign import Call, tflite
from isobit.ops.maximum.op import MaximumAttrs, MaximumInputs
from isobit.ops.tflite import (
    finish,
    pair_of,
    require_computed,
    require_same_encoding,
    require_types,
)


@tflite("MAXIMUM", "MINIMUM")
def maximum(call: Call) -> None:
    """a, b: any shapes that broadcast. Source: TFLM `kernels/maximum_minimum.cc`."""
    require_types(call, "s8", "s16")
    require_same_encoding(call, 0, 1)
    require_computed(call, 0, 1)
    a, b, shape = pair_of(call)
    attrs = MaximumAttrs(call.code == "MINIMUM")
    finish(call, "maximum", MaximumInputs(a, b), attrs, shape=shape, clamped=True)
