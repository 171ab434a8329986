"""TFLite's TRANSPOSE_CONV."""

from __future__ import annotations

from isobit.ops.foreign import Call, Operand, tflite
from isobit.ops.int16 import weighted_rule
from isobit.ops.tflite import (
    bias_constant,
    code_bounds,
    filters,
    finish,
    padding,
    require_computed,
    strides,
)
from isobit.ops.transpose_conv2d.op import TransposeConv2dAttrs
from isobit.ops.weighted import WeightedInputs

TYPES = ("s8 to s8", "s16 to s16")


@tflite("TRANSPOSE_CONV")
def transpose_conv(call: Call) -> None:
    """Inputs: shape of the output, w [O,KH,KW,C], x [1,H,W,C], b [O] or none.

    The padding is that of a convolution from y back to x. Source: TFLM
    `kernels/transpose_conv.cc`, which takes the shape from the output tensor.
    """
    w, x, y = filters(call, 1), call.operand(2), call.output()
    weights = call.constant(1, "weights")
    _require_types(call, x, y)
    require_computed(call, 2)
    shapes = (x.shape, weights.shape, y.shape)
    if any(len(shape) != 4 for shape in shapes) or x.shape[0] != 1:
        got = ", ".join(str(list(shape)) for shape in shapes)
        raise call.unsupported("shapes", "[1,H,W,C], [O,KH,KW,C], [1,OH,OW,O]", got, "")
    stride, size = strides(call), (y.shape[1], y.shape[2])
    pad = padding(call, size, (weights.shape[1], weights.shape[2]), stride)
    attrs = TransposeConv2dAttrs(size, stride, (pad[0], pad[1]))
    inputs = WeightedInputs(call.value(x), call.stored(w), bias_constant(call, 3))
    if call.is_float:
        finish(call, "transpose_conv2d", inputs, attrs)
        return
    requant, rule = weighted_rule(call, x, w, y, 3)
    inputs = WeightedInputs(inputs.x, inputs.w, inputs.b, **requant)
    clamp = code_bounds(call, y)
    exact = TransposeConv2dAttrs(size, stride, attrs.pad, clamp, rule)
    finish(call, "transpose_conv2d", inputs, exact, clamped=True)


def _require_types(call: Call, x: Operand, y: Operand) -> None:
    """Refuse other integers; `require_types` would look at the shape operand."""
    got = f"{x.type.dtype.value} to {y.type.dtype.value}"
    if not call.is_float and (got not in TYPES or x.is_float):
        raise call.unsupported("types", " or ".join(TYPES), got, "Convert the model to int8.")
