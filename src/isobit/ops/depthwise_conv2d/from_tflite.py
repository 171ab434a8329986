"""TFLite's DEPTHWISE_CONV_2D."""

from __future__ import annotations

from dataclasses import replace

from isobit.core.types import Affine
from isobit.ops.depthwise_conv2d.op import DepthwiseConv2dAttrs
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


@tflite("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(call: Call) -> None:
    """x: [1,H,W,C], w [1,KH,KW,C*multiplier], b or none. Source: TFLM
    `kernels/depthwise_conv.cc`.
    """
    require_types(call, "s8", "s16")
    x, w, y = call.operand(0), filters(call, 1), call.output()
    weights = call.constant(1, "weights") if w.data is None else w.data
    shapes = len(x.shape) == 4 and x.shape[0] == 1 and weights.ndim == 4 and weights.shape[0] == 1
    if not shapes or weights.shape[3] % x.shape[3]:
        got = f"{list(x.shape)} and weights {list(w.shape)}"
        raise call.unsupported("shapes", "[1,H,W,C] and [1,KH,KW,C*m]", got, "Use a batch of 1.")
    times = weights.shape[3] // x.shape[3]
    given = int(call.option("depth_multiplier", times))
    if given != times:
        raise call.unsupported(
            "depth_multiplier",
            f"{times}, as {x.shape[3]} channels and weights {list(w.shape)} mean",
            str(given),
            "Convert the model again: runtimes differ about which of the two counts.",
        )
    stride, dilation = strides(call), dilations(call)
    size, kernel = (x.shape[1], x.shape[2]), (weights.shape[1], weights.shape[2])
    pad = padding(call, size, kernel, stride, dilation)
    attrs = DepthwiseConv2dAttrs(stride, pad, dilation)
    encoding = w.type.encoding
    if isinstance(encoding, Affine) and encoding.axis is not None:
        encoding = replace(encoding, axis=2)
    stored = replace(w, type=replace(w.type, encoding=encoding))
    name = call.stored(stored, weights[0])
    inputs = WeightedInputs(x.value, name, bias_constant(call, 2))
    if call.is_float:
        finish(call, "depthwise_conv2d", inputs, attrs)
        return
    requant, rule = weighted_rule(call, x, w, y, 2)
    inputs = WeightedInputs(x.value, name, inputs.b, **requant)
    exact = replace(attrs, clamp=code_bounds(call, y), round=rule)
    call.result("depthwise_conv2d", inputs, exact)
