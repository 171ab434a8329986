"""TFLite's MAX_POOL_2D."""

from __future__ import annotations

from isobit.ops.foreign import Call, tflite
from isobit.ops.max_pool2d.op import MaxPool2dAttrs, MaxPool2dInputs
from isobit.ops.tflite import (
    computed,
    finish,
    pool_window,
    require_same_encoding,
    require_types,
)


@tflite("MAX_POOL_2D")
def max_pool_2d(call: Call) -> None:
    """x: [1,H,W,C]. Source: TFLite `reference_integer_ops::MaxPool`."""
    require_types(call, "s8", "s16")
    require_same_encoding(call, 0)
    kernel, stride, pad = pool_window(call)
    inputs = MaxPool2dInputs(computed(call))
    finish(call, "max_pool2d", inputs, MaxPool2dAttrs(kernel, stride, pad))
