"""ONNX's Mul, and Div by a constant."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from isobit.ops.foreign import Operand, onnx
from isobit.ops.logical import Elementwise, LogicalCall
from isobit.ops.mul.op import MulAttrs, MulInputs
from isobit.ops.onnx import code_bounds, coded, reach, rescaled, scale, stored_reals, tabulated


@onnx("Mul", "QLinearMul")
def mul(call: LogicalCall) -> None:
    """a, b: computed or stored, broadcast as NumPy does."""
    record(call, call.operand(0), call.operand(1))


@onnx("Div")
def div(call: LogicalCall) -> None:
    """a: computed; b: stored, without zeros. Integer graphs: one number, a table."""
    a, b = call.activation(), call.operand(1)
    divisor = call.constant(1, "divisor")
    if not call.is_float:
        values = set(stored_reals(call, b))
        number = next(iter(values)) if len(values) == 1 else Fraction(0)
        if not number or a.shape != call.output().shape:
            got = f"{len(values)} numbers of shape {list(b.shape)}"
            raise call.unsupported("divisor", "one number, not 0", got, "Multiply instead.")
        tabulated(call, lambda v: v / number)
        return
    if not np.all(divisor):
        raise call.unsupported("divisor", "no zeros", "a zero", "The result has no value.")
    inverse = 1.0 / divisor.astype(np.float64)
    record(call, a, Operand(b.label, b.shape, b.type, b.value, inverse))


def record(call: LogicalCall, a: Operand, b: Operand) -> None:
    """Record a product."""
    attrs, names = MulAttrs(), {}
    if not call.is_float:
        y = call.output()
        (a, lost_a), (b, lost_b) = coded(call, a), coded(call, b)
        sa, sb, sy = (scale(call, x) for x in (a, b, y))
        lost = (lost_a * reach(b) * sb + lost_b * reach(a) * sa) / sy
        names = rescaled(call, sa * sb / sy, reach(a) * reach(b), error=lost)
        attrs = MulAttrs(code_bounds(call, y))
    call.step(Elementwise("mul", lambda n: MulInputs(n[0], n[1], **names), attrs), [a, b])
