"""ONNX's Pad."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from isobit.core.types import Raw
from isobit.ir.graph import Attrs
from isobit.ops.exact import half_even
from isobit.ops.foreign import onnx
from isobit.ops.logical import Along, LogicalCall, Placed
from isobit.ops.mirror_pad.op import Mirror, MirrorPadAttrs, MirrorPadInputs
from isobit.ops.onnx import done, finished, scale, target
from isobit.ops.pad.op import PadAttrs, PadInputs


@onnx("Pad")
def pad(call: LogicalCall) -> None:
    """x: any shape; pads and value stored, pads >= 0; modes constant and reflect."""
    x = call.activation()
    rank = len(x.shape)
    flat = [int(n) for n in call.constant(1, "pads").reshape(-1)]
    axes = list(range(rank))
    if call.optional(3) is not None:
        axes = [call.axis(int(a), rank) for a in call.constant(3, "axes").reshape(-1)]
    if len(flat) != 2 * len(axes) or min(flat, default=0) < 0:
        raise call.unsupported(
            "pads", f"{2 * len(axes)} numbers >= 0", str(flat), "Cut with Slice instead."
        )
    pads = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        pads[axis] = (flat[position], flat[position + len(axes)])
    touched = tuple(axis for axis, pair in enumerate(pads) if any(pair))
    if not touched:
        finished(call, x)
        return
    y = target(call, call.output().shape, like=x)
    mode = call.option("mode", "constant")
    if mode == "reflect":
        kind = Along(
            "mirror_pad",
            lambda n: MirrorPadInputs(n[0]),
            lambda at: MirrorPadAttrs(at.spread(pads), Mirror.REFLECT),
            touched,
        )
    elif mode == "constant":
        code, real = _value(call)

        def attrs(at: Placed) -> Attrs:
            return PadAttrs(at.spread(pads), code, real)

        kind = Along("pad", lambda n: PadInputs(n[0]), attrs, touched)
    else:
        raise call.unsupported("mode", "constant or reflect", mode, "Pad with zeros.")
    call.step(kind, [x], y)
    done(call, y)


def _value(call: LogicalCall) -> tuple[int | None, float]:
    """Return the code to pad with, `None` for real 0, and the real number."""
    given = call.optional(2)
    if given is None:
        return None, 0.0
    data = call.constant(2, "value").reshape(-1)
    x = call.activation()
    if call.is_float:
        return None, float(data[0])
    step = scale(call, x)
    if isinstance(given.type.encoding, Raw):  # the file pads codes with a code
        raw = int(data[0]) - (128 if data.dtype == np.uint8 else 0)
        return (None if raw == x.zero else raw), float(step * (raw - x.zero))
    if given.is_float:
        real = Fraction(float(data[0]))
    else:
        real = scale(call, given) * (int(data[0]) - given.zero)
    code = half_even(real / step) + x.zero
    if not -128 <= code <= 127 or (call.inherits and (real / step).denominator != 1):
        raise call.unsupported(
            "value", "a code of the input", str(float(real)), "Quantise with a range that has it."
        )
    return (None if code == x.zero else code), float(real)
