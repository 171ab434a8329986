"""ONNX's Mul and Div."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from isobit.ops.foreign import Operand, onnx
from isobit.ops.logical import Elementwise, LogicalCall
from isobit.ops.mul.op import MulAttrs, MulInputs
from isobit.ops.onnx import code_bounds, coded, reach, rescaled, scale, stored_reals, tabulated
from isobit.ops.onnx_channels import channel_reals, per_channel
from isobit.ops.onnx_compose import times, unary


@onnx("Mul", "QLinearMul")
def mul(call: LogicalCall) -> None:
    """a, b: computed or stored, broadcast as NumPy does."""
    record(call, call.operand(0), call.operand(1))


@onnx("Div")
def div(call: LogicalCall) -> None:
    """A / b. b stored, without zeros: a product with its inverse; b computed: a product with a
    table of the inverse. Integer graphs: one of them stored; one number is a table, one per
    channel a multiplier each.
    """
    a, b = call.operand(0), call.operand(1)
    if not b.is_const:
        _inverted(call, a, b)
        return
    a = call.activation()
    divisor = call.constant(1, "divisor")
    if not call.is_float:
        reals = channel_reals(call, a, b)
        if reals and all(reals):
            inverses = [1 / real for real in reals]
            if per_channel(call, a, inverses, [Fraction(0)] * len(inverses)):
                return
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


def _inverted(call: LogicalCall, a: Operand, b: Operand) -> None:
    """Record a / b with a computed b."""
    if call.is_float:
        if a.data is not None and a.shape == () and float(a.data) == 1.0:
            unary(call, "reciprocal", b, call.output())
        else:
            times(call, a, unary(call, "reciprocal", b), call.output())
        return
    values = set(stored_reals(call, a)) if a.is_const else set()
    number = next(iter(values)) if len(values) == 1 else Fraction(0)
    if not number or b.shape != call.output().shape:
        raise call.unsupported(
            "operands",
            "a stored divisor, or one stored number, not 0, that is divided",
            "two values computed at run time" if not a.is_const else f"{len(values)} numbers",
            "Divide in a float graph and calibrate that, or multiply instead.",
        )
    # Infinity, as the definition has it for a divisor of 0, is the last code.
    tabulated(call, lambda v: number / v if v else number * (1 << 200), b)


def record(call: LogicalCall, a: Operand, b: Operand) -> None:
    """Record a product."""
    attrs, names = MulAttrs(), {}
    for x, c in ((a, b), (b, a)):
        reals = channel_reals(call, x, c)
        if reals and per_channel(call, x, reals, [Fraction(0)] * len(reals)):
            return
    if not call.is_float:
        y = call.output()
        (a, lost_a), (b, lost_b) = coded(call, a), coded(call, b)
        sa, sb, sy = (scale(call, x) for x in (a, b, y))
        lost = (lost_a * reach(b) * sb + lost_b * reach(a) * sa) / sy
        names = rescaled(call, sa * sb / sy, reach(a) * reach(b), error=lost)
        attrs = MulAttrs(code_bounds(call, y))
    call.step(Elementwise("mul", lambda n: MulInputs(n[0], n[1], **names), attrs), [a, b])
