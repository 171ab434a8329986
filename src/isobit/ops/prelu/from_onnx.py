"""ONNX's PRelu."""

from __future__ import annotations

from dataclasses import replace

from isobit.ir.graph import Inputs
from isobit.ops.foreign import onnx
from isobit.ops.logical import Elementwise, LogicalCall, Names
from isobit.ops.onnx import code_bounds, rescaled, scale
from isobit.ops.prelu.op import PreluAttrs, PreluInputs


@onnx("PRelu")
def prelu(call: LogicalCall) -> None:
    """x: any shape; slope: stored, broadcast to x."""
    x, slope = call.activation(), call.operand(1)
    call.constant(1, "slope")
    names: dict[str, str] = {}
    attrs = PreluAttrs()
    if not call.is_float:
        sx, ss, sy = scale(call, x), scale(call, slope), scale(call, call.output())
        largest = max(127 - x.zero, x.zero + 128)
        names = rescaled(call, sx / sy, largest)
        names |= rescaled(call, sx * ss / sy, largest * 255, ("mult_neg", "shift_neg"))
        attrs = replace(attrs, clamp=code_bounds(call, call.output()))

    def inputs(found: Names) -> Inputs[str]:
        return PreluInputs(found[0], found[1], **names)

    call.step(Elementwise("prelu", inputs, attrs), [x, slope])
