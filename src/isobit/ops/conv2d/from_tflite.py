"""TFLite's CONV_2D."""

from __future__ import annotations

from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.foreign import Call, tflite
from isobit.ops.int16 import weighted_rule
from isobit.ops.tflite import (
    bias_constant,
    code_bounds,
    dilations,
    filters,
    finish,
    padding,
    require_types,
    strides,
)
from isobit.ops.weighted import WeightedInputs


@tflite("CONV_2D")
def conv_2d(call: Call) -> None:
    """x: [1,H,W,C], w [O,KH,KW,C/groups], b [O] or none. Source: TFLM `kernels/conv.cc`."""
    require_types(call, "s8", "s16")
    x, w, y = call.operand(0), filters(call, 1), call.output()
    weights = call.constant(1, "weights")
    if len(x.shape) != 4 or x.shape[0] != 1 or weights.ndim != 4:
        got = f"{list(x.shape)} and weights {list(w.shape)}"
        raise call.unsupported("shapes", "[1,H,W,C] and [O,KH,KW,C]", got, "Use a batch of 1.")
    groups, rest = divmod(x.shape[3], max(weights.shape[3], 1))
    if rest or not groups:
        got = f"{x.shape[3]} of the input, {weights.shape[3]} of the weights"
        raise call.unsupported("channels", "a whole number of groups", got, "")
    stride, dilation = strides(call), dilations(call)
    size, kernel = (x.shape[1], x.shape[2]), (weights.shape[1], weights.shape[2])
    pad = padding(call, size, kernel, stride, dilation)
    attrs = Conv2dAttrs(stride, pad, dilation, groups)
    name = call.stored(w)
    inputs = WeightedInputs(x.value, name, bias_constant(call, 2))
    if call.is_float:
        finish(call, "conv2d", inputs, attrs)
        return
    requant, rule = weighted_rule(call, x, w, y, 2, narrow_bias=True)
    inputs = WeightedInputs(x.value, name, inputs.b, **requant)
    exact = Conv2dAttrs(stride, pad, dilation, groups, code_bounds(call, y), rule)
    call.result("conv2d", inputs, exact)
