"""TFLite's AVERAGE_POOL_2D."""

from __future__ import annotations

from isobit.core.fixed import Average
from isobit.ops.avg_pool2d.op import AvgPool2dAttrs, AvgPool2dInputs
from isobit.ops.foreign import Call, tflite
from isobit.ops.tflite import (
    code_bounds,
    computed,
    finish,
    pool_window,
    require_same_encoding,
    require_types,
)


@tflite("AVERAGE_POOL_2D")
def average_pool_2d(call: Call) -> None:
    """x: [1,H,W,C]; padding is not counted. Sources: TFLite `reference_integer_ops::AveragePool`,
    of uint8 `reference_ops::AveragePool`.
    """
    require_types(call, "s8", "s16")
    require_same_encoding(call, 0)
    kernel, stride, pad = pool_window(call)
    inputs = AvgPool2dInputs(computed(call))
    if call.is_float:
        finish(call, "avg_pool2d", inputs, AvgPool2dAttrs(kernel, stride, pad))
        return
    rule = Average.HALF_UP if call.is_uint8 else Average.AWAY
    clamp = code_bounds(call, call.output())
    attrs = AvgPool2dAttrs(kernel, stride, pad, clamp=clamp, round=rule)
    finish(call, "avg_pool2d", inputs, attrs, clamped=True)
