"""ONNX's PRelu."""

from __future__ import annotations

from dataclasses import replace

from isobit.ir.graph import Inputs
from isobit.ops.foreign import onnx
from isobit.ops.logical import Elementwise, LogicalCall, Names
from isobit.ops.onnx import code_bounds, coded, reach, rescaled, scale
from isobit.ops.prelu.op import PreluAttrs, PreluInputs


@onnx("PRelu")
def prelu(call: LogicalCall) -> None:
    """x: any shape; slope: stored, broadcast to x; reals in a quantised graph get codes."""
    x = call.activation()
    call.constant(1, "slope")
    slope, error = coded(call, call.operand(1))
    names: dict[str, str] = {}
    attrs = PreluAttrs()
    if not call.is_float:
        sx, ss, sy = scale(call, x), scale(call, slope), scale(call, call.output())
        largest = reach(x)
        names = rescaled(call, sx / sy, largest)
        lost = error * largest * sx / sy
        names |= rescaled(call, sx * ss / sy, largest * 255, ("mult_neg", "shift_neg"), lost)
        attrs = replace(attrs, clamp=code_bounds(call, call.output()))

    def inputs(found: Names) -> Inputs[str]:
        return PreluInputs(found[0], found[1], **names)

    call.step(Elementwise("prelu", inputs, attrs), [x, slope])
