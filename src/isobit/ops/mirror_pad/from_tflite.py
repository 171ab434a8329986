"""TFLite's MIRROR_PAD."""

from __future__ import annotations

from isobit.ops.foreign import Call, tflite
from isobit.ops.int16 import is_int16
from isobit.ops.mirror_pad.op import Mirror, MirrorPadAttrs, MirrorPadInputs
from isobit.ops.movement import framed, framed_shape, lead_of, paddings, require_one_encoding
from isobit.ops.tflite import finish

MODES = {0: Mirror.REFLECT, 1: Mirror.SYMMETRIC}


@tflite("MIRROR_PAD")
def mirror_pad(call: Call) -> None:
    """x: any shape; paddings: s32 or s64 [rank,2], stored. Source: TFLM `kernels/mirror_pad.cc`."""
    x, y = call.operand(0), call.output()
    require_one_encoding(call, x)
    if is_int16(call):
        raise call.unsupported(
            "types", "int8 or float32", "int16", "The runtime has no int16 kernel."
        )
    number = call.option("mode", 0)
    if number not in MODES:
        raise call.unsupported("mode", "REFLECT or SYMMETRIC", str(number), "The file is damaged.")
    mode, pads = MODES[number], paddings(call)
    for axis, (size, pair) in enumerate(zip(x.shape or (1,), pads, strict=True)):
        most = size if mode is Mirror.SYMMETRIC else size - 1
        if max(pair) > most:
            raise call.unsupported(
                f"paddings of axis {axis}", f"0..{most}", str(pair), "A mirror shows no more."
            )
    lead = lead_of((x, y), touches_first=any(pads[0]))
    attrs = MirrorPadAttrs(pads if lead else pads[1:], mode)
    inputs = MirrorPadInputs(framed(call, x, lead))
    finish(call, "mirror_pad", inputs, attrs, shape=framed_shape(y.shape, lead))
