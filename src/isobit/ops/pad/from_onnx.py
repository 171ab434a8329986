"""ONNX's Pad."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from isobit.core.types import Raw
from isobit.ir.graph import Attrs
from isobit.ops.foreign import Operand, onnx
from isobit.ops.logical import Along, LogicalCall, Placed
from isobit.ops.mirror_pad.op import Mirror, MirrorPadAttrs, MirrorPadInputs
from isobit.ops.onnx import code_bounds, code_of, done, finished, recoded, scale, target
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
    mode = call.option("mode", "constant")
    code, real = None, 0.0
    if mode == "constant":
        x, code, real = _filled(call, x)
    y = target(call, call.output().shape, like=x)
    if mode == "reflect":
        kind = Along(
            "mirror_pad",
            lambda n: MirrorPadInputs(n[0]),
            lambda at: MirrorPadAttrs(at.spread(pads), Mirror.REFLECT),
            touched,
        )
    elif mode == "constant":

        def attrs(at: Placed) -> Attrs:
            return PadAttrs(at.spread(pads), code, real)

        kind = Along("pad", lambda n: PadInputs(n[0]), attrs, touched)
    else:
        raise call.unsupported("mode", "constant or reflect", mode, "Pad with zeros.")
    call.step(kind, [x], y)
    done(call, y)


def _filled(call: LogicalCall, x: Operand) -> tuple[Operand, int | None, float]:
    """Return what is padded, the code to pad with (`None` for real 0), and the real number.

    In a quantised graph a number that is no code of x is rounded once, to codes of the result: x
    is brought to these first.
    """
    given = call.optional(2)
    if given is None:
        return x, None, 0.0
    data = call.constant(2, "value").reshape(-1)
    if call.is_float:
        return x, None, float(data[0])
    step = scale(call, x)
    if isinstance(given.type.encoding, Raw):  # the file pads codes with a code
        raw = int(data[0]) - (128 if data.dtype == np.uint8 else 0)
        return x, (None if raw == x.zero else raw), float(step * (raw - x.zero))
    real: Fraction | float = float(data[0])
    if not given.is_float:
        real = scale(call, given) * (int(data[0]) - given.zero)
    if math.isnan(real):
        raise call.unsupported("value", "a number", "NaN", "Pad with a number.")
    if not math.isinf(real):
        code = Fraction(real) / step + x.zero
        if code.denominator == 1 and -128 <= code <= 127:
            return x, (None if code == x.zero else int(code)), float(real)
    if call.inherits:
        raise call.unsupported(
            "value", "a code of the input", str(float(real)), "Quantise with a range that has it."
        )
    y = call.output()
    low, high = code_bounds(call, y)
    bounded = min(max(code_of(real, y, scale(call, y)), low), high)
    return recoded(call, x, y.type), bounded, float(real)
