"""TFLite's PAD and PADV2."""

from __future__ import annotations

import numpy as np

from isobit.core.dtypes import DType
from isobit.ops.foreign import Call, tflite
from isobit.ops.movement import framed, framed_shape, lead_of, paddings, require_one_encoding
from isobit.ops.pad.op import PadAttrs, PadInputs
from isobit.ops.tflite import finish


@tflite("PAD", "PADV2")
def pad(call: Call) -> None:
    """x: any shape; paddings: s32 or s64 [rank,2], stored; the value of PADV2: one stored element
    of x's encoding. Source: TFLM `kernels/pad_common.cc`.
    """
    x, y = call.operand(0), call.output()
    require_one_encoding(call, x)
    pads = paddings(call)
    lead = lead_of((x, y), touches_first=any(pads[0]))
    attrs = _filled(call, pads if lead else pads[1:])
    inputs = PadInputs(framed(call, x, lead))
    finish(call, "pad", inputs, attrs, shape=framed_shape(y.shape, lead))


def _filled(call: Call, pads: tuple[tuple[int, int], ...]) -> PadAttrs:
    """Return the attributes with the value: a code, or in float graphs a real."""
    if call.optional(2) is None:
        # int32 has no zero point there, whatever the file says.
        is_wide = call.operand(0).type.dtype is DType.S32
        return PadAttrs(pads, 0 if is_wide and not call.is_float else None)
    value = call.operand(2)
    require_one_encoding(call, value)
    (stored,) = np.ravel(call.constant(2, "value"))[:1]
    if not call.is_float:
        return PadAttrs(pads, int(stored))
    return PadAttrs(pads, real=float(stored))
