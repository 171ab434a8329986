"""TFLite's FULLY_CONNECTED."""

from __future__ import annotations

import numpy as np

from isobit.core.fixed import Rounding
from isobit.ops.conv2d.op import Conv2dAttrs
from isobit.ops.foreign import Call, Runtime, tflite
from isobit.ops.int16 import is_int16, weighted_rule
from isobit.ops.linear.op import LinearAttrs
from isobit.ops.litert import nearest_factors
from isobit.ops.tflite import (
    bias_constant,
    code_bounds,
    finish,
    recentred,
    require_types,
    stored_factors,
    weighted_reals,
)
from isobit.ops.weighted import WeightedInputs, accumulator_bound


@tflite("FULLY_CONNECTED")
def fully_connected(call: Call) -> None:
    """x: [..., I] taken as rows of I, w [O,I], b [O] or none. Source: TFLM
    `kernels/fully_connected.cc`.

    One row is `linear`; several are a 1x1 convolution over them, which computes the same.
    """
    require_types(call, "s8", "s16")
    x, w, y = call.operand(0), recentred(call.operand(1)), call.output()
    weights = call.constant(1, "weights") if w.data is None else w.data
    if weights.ndim != 2 or not weights.shape[1] or x.type.elements % weights.shape[1]:
        got = f"{list(x.shape)} and weights {list(w.shape)}"
        raise call.unsupported("shapes", "[..., I] and [O, I]", got, "")
    if call.option("weights_format", 0) != 0:
        raise call.unsupported("weights format", "DEFAULT", "SHUFFLED4x16INT8", "Convert again.")
    outputs, taps = weights.shape
    rows = x.type.elements // taps
    b, name = bias_constant(call, 2), call.value(x)
    if rows == 1:
        inputs = WeightedInputs(call.viewed(name, (1, taps)), call.stored(w), b)
        shape: tuple[int, ...] = (1, outputs)
    else:
        kernel = call.stored(w, weights.reshape(outputs, 1, 1, taps), "rows")
        inputs = WeightedInputs(call.viewed(name, (1, rows, 1, taps)), kernel, b)
        shape = (1, rows, 1, outputs)
    if call.is_float:
        attrs = LinearAttrs() if rows == 1 else Conv2dAttrs()
        finish(call, "linear" if rows == 1 else "conv2d", inputs, attrs, shape=shape)
        return
    # TFLM rounds twice here too; LiteRT's reference kernel rounds once, a float64.
    if call.runtime is Runtime.LITERT and not is_int16(call):
        bias = None if call.optional(2) is None else call.constant(2, "bias").reshape(-1)
        if bias is not None and len(bias) != outputs:
            raise call.unsupported("bias", f"[{outputs}]", str(list(bias.shape)), "")
        centred = weights.astype(np.int64) - w.zero
        bounds = accumulator_bound(x.type, centred, bias, 0)
        pairs = nearest_factors(call, weighted_reals(x, w, y), bounds)
        requant, rule = stored_factors(call, pairs), Rounding.HALF_UP
    else:
        requant, rule = weighted_rule(call, x, w, y, 2, narrow_bias=True)
    inputs = WeightedInputs(inputs.x, inputs.w, b, **requant)
    clamp = code_bounds(call, y)
    if rows == 1:
        finish(call, "linear", inputs, LinearAttrs(clamp, rule), shape=shape, clamped=True)
    else:
        exact = Conv2dAttrs(clamp=clamp, round=rule)
        finish(call, "conv2d", inputs, exact, shape=shape, clamped=True)
