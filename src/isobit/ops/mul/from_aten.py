"""PyTorch's products, and quotients by constants."""

from __future__ import annotations

from isobit.ops.aten import as_onnx, second
from isobit.ops.foreign import aten
from isobit.ops.logical import LogicalCall
from isobit.ops.mul.from_onnx import div, record


@aten("mul.Tensor", "mul.Scalar")
def mul(call: LogicalCall) -> None:
    """`a * b`; NumPy broadcasting."""
    record(call, call.operand(0), second(call))


@aten("div.Tensor", "div.Scalar")
def quotient(call: LogicalCall) -> None:
    """`a / b` with a constant b without zeros."""
    div(as_onnx(call, "Div", [call.operand(0), second(call)]))
